/**
 * What moves a branch: given its head, an operation makes the objects of the next one. It is run again, on another
 * head, whenever another writer was first; so it decides from the head alone.
 */

import { type Author, type Change, DatabaseError, type Tree } from './database.ts';
import { EMPTY_TREE } from './git-object.ts';
import { baseTree, isAncestor, mergeBases } from './history.ts';
import { mergeTrees } from './merge.ts';
import type { Objects } from './objects.ts';
import { TreeView } from './tree-view.ts';
import { WorkingTree } from './working-tree.ts';

/** The branch's next head from its present one; undefined: the branch is not there, or goes. */
export type Operation = (objects: Objects, head: string | undefined) => Promise<string | undefined>;

export interface Stamp {
  readonly message: string;
  readonly author: Author;
  readonly timeMs: number;
}

export type Decide = (tree: Tree, head: string | undefined) => Promise<readonly Change[]> | readonly Change[];

export function updateBranch(decide: Decide, stamp: Stamp): Operation {
  return async (objects, head) => {
    const before = head === undefined ? EMPTY_TREE : (await objects.commit(head)).tree;
    const work = new WorkingTree(objects, before);
    await work.apply(await decide(new TreeView(objects, before), head));
    const tree = work.store();
    if (head !== undefined && tree === before) return head;
    return objects.addCommit({ ...stamp, tree, parents: head === undefined ? [] : [head] });
  };
}

export function createBranch(commit: string | undefined, stamp: Stamp): Operation {
  return async (objects, head) => {
    if (head !== undefined) throw new DatabaseError('EXISTS', 'the branch is there already');
    if (commit === undefined) return objects.addCommit({ ...stamp, tree: objects.addTree([]), parents: [] });
    return (await objects.commit(commit)).id;
  };
}

export function removeBranch(): Operation {
  return async (_objects, head) => {
    if (head === undefined) throw new DatabaseError('NO-BRANCH', 'there is no such branch');
    return undefined;
  };
}

export function fastForward(commit: string): Operation {
  return async (objects, head) => {
    await objects.commit(commit);
    if (head !== undefined && !(await isAncestor(objects, head, commit)))
      throw new DatabaseError('NOT-FAST-FORWARD', `the branch's head ${head} is not an ancestor of ${commit}`);
    return commit;
  };
}

export function mergeCommit(commit: string, stamp: Stamp): Operation {
  return async (objects, head) => {
    const theirs = await objects.commit(commit);
    if (head === undefined || theirs.parents.includes(head)) return commit;
    const bases = await mergeBases(objects, head, commit);
    if (bases.includes(commit)) return head;
    if (bases.includes(head)) return commit;
    const ours = await objects.commit(head);
    const merged = await mergeTrees(objects, await baseTree(objects, head, commit), ours.tree, theirs.tree);
    mustNotConflict(merged.conflicts);
    return objects.addCommit({ ...stamp, tree: merged.tree, parents: [head, commit] });
  };
}

export function revertCommit(commit: string, stamp: Stamp): Operation {
  return async (objects, head) => {
    if (head === undefined) throw new DatabaseError('NO-BRANCH', 'there is no such branch');
    const { tree, parents } = await objects.commit(commit);
    const before = parents[0] === undefined ? EMPTY_TREE : (await objects.commit(parents[0])).tree;
    const ours = (await objects.commit(head)).tree;
    const merged = await mergeTrees(objects, tree, ours, before);
    mustNotConflict(merged.conflicts);
    return merged.tree === ours ? head : objects.addCommit({ ...stamp, tree: merged.tree, parents: [head] });
  };
}

function mustNotConflict(conflicts: readonly string[]): void {
  if (conflicts.length > 0) throw new DatabaseError('CONFLICT', `Merge conflict: ${conflicts.join(', ')}`, conflicts);
}
