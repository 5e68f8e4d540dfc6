/** Wrong usage: the command line ends with status 2. */
export class UsageError extends Error {
  readonly code = 'USAGE';
}
