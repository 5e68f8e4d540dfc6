/** The instance that the command line speaks to. */

import { type Home, homeAt, homeDirectory } from '../home.ts';

export const currentHome = (): Home => homeAt(homeDirectory());
