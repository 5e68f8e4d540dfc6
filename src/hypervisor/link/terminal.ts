/** Whether a terminal sends its signals (Ctrl-C and its like) to our process group. See tcgetpgrp(3). */

import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';

const libc = koffi.load(null);
const tcgetpgrp = libc.func('int tcgetpgrp(int)');
const getpgrp = libc.func('int getpgrp()');

export function inForeground(): boolean {
  let terminal: number;
  try {
    terminal = openSync('/dev/tty', 'r');
  } catch {
    return false;
  }
  try {
    return tcgetpgrp(terminal) === getpgrp();
  } finally {
    closeSync(terminal);
  }
}
