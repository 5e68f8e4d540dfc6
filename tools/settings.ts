/** Writes docs/SETTINGS.md from the schema of the settings. */

import { writeFileSync } from 'node:fs';
import { settingsDocument } from '../src/config/settings-document.ts';

writeFileSync(new URL('../docs/SETTINGS.md', import.meta.url), settingsDocument());
