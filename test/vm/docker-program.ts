/** Docker's own client: the host's. */

export function dockerProgram(): string {
  return 'docker';
}
