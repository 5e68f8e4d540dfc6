/** docs/SETTINGS.md, made from the schema. */

import { type SettingRule, schema, settingNames, settingPath } from './schema.ts';

const HEAD = `# Settings

Made from src/config/schema.ts by \`node tools/settings.ts\`.

Settings lie in a bare git repository, \`$SLIPWAY_HOME/database\`: each is a file of the branch \`user\`, each change a
commit. \`slipway config\` reads and writes it, and so does git:

\`\`\`sh
slipway config set vm.memory=4096 vm.cpus=4 -m 'More room'
slipway config log                  # who changed what, when
slipway config diff HEAD            # what the last commit changed
slipway config revert HEAD          # undo it
slipway config diff                 # what is set, against what is in force
slipway config watch ports.bind     # now, then at each change

git clone ~/.local/share/slipway/database settings && cd settings
mkdir -p vm && echo 4096 >vm/memory && git add vm && git commit -m 'More room' && git push
\`\`\`

| branch | what |
| --- | --- |
| \`user\` | what you have chosen; where it says nothing, \`defaults\` holds |
| \`defaults\` | written by Slipway; others that you push there stay until a new version has other defaults |
| \`state\` | what is in force, written by Slipway |

Whoever commits, it takes effect at once, or, where the table says so, when the VM next starts (\`slipway restart\`).
The same tree is served over 9P on \`$SLIPWAY_HOME/db.9p.sock\`, as DataKit served it: branches, transactions, watches.
DataKit's \`/debug\`, which set the levels of its own log, is not there: the setting \`logs.level\` is what it was for.
What is pushed by hand and is no setting, or no value that the setting takes, is reported (\`slipway config list\`,
\`slipway status\`, the log) and the last good value stays in force.

The guest reads all of it, every branch and its history, and so may a privileged container: a secret does not belong into a setting, not
even for a moment. None needs one: the proxy's user and password lie in a file beside the database, and a setting that has them
is refused. The guest writes branches below \`guest/\` alone, at most 256; when the whole
database takes 512 MiB, its commits fail with ENOSPC. Room is made on the host: \`git branch -D guest/NAME\`, then
\`git gc --prune=1.minute.ago\`.

The file \`schema-version\` says which names and forms the settings have. A Slipway whose schema is newer brings them up to date
when it starts: one commit on each branch, whose message says what became of which setting. To go back to an older Slipway,
revert that commit first. Settings that follow a newer schema are refused, with what to do: nothing of them is taken or
changed, and the daemon does not start with defaults in their place.

## A secret in the history

A password that was pushed by hand is not taken, and \`slipway config list\` says so; but it is in the branch's history, where the
guest may have read it. Change the password first. Then take its commit, and those after it, out of the branch in a clone, and
out of the database, a minute later (what is younger may be a commit under way):

\`\`\`sh
git reset --hard COMMIT~1 && git push --force
git -C ~/.local/share/slipway/database gc --prune=1.minute.ago
\`\`\`
`;

export function settingsDocument(): string {
  const blocks = settingNames.map((name) => {
    const rule = schema[name] as SettingRule<string | number>;
    const { default: byDefault, unit, range, choices, restarts, summary, details } = rule;
    const type = choices ? 'one of' : typeof byDefault === 'number' ? 'whole number' : 'text';
    const takes = [
      type,
      choices?.map((choice) => `\`${choice}\``).join(', '),
      range && `from ${range[0]} to ${range[1]}`,
      unit,
    ];
    const rows = [
      ['file', `\`${settingPath(name)}\``],
      ['takes', takes.filter(Boolean).join(' ')],
      ['default', byDefault === '' ? 'nothing' : `\`${byDefault}\``],
      ['takes effect', restarts === 'vm' ? 'when the VM next starts' : 'at once'],
    ];
    const table = ['| | |', '| --- | --- |', ...rows.map(([key, value]) => `| ${key} | ${value} |`)].join('\n');
    const words = summary.charAt(0).toUpperCase() + summary.slice(1);
    return `## ${name}\n\n${words}.${details ? ` ${details}` : ''}\n\n${table}\n`;
  });
  return [HEAD, ...blocks].join('\n');
}
