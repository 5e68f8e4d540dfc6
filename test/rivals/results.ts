/** What `npm run rivals` has found, as results.json keeps it. */

export interface Results {
  readonly date: string;
  readonly players: { readonly name: string; readonly version: string }[];
  readonly cases: {
    readonly rfc: number;
    readonly section: string;
    readonly behaviour: string;
    /** In the players' order: 'yes', or what was seen instead. */
    readonly outcomes: readonly string[];
  }[];
}
