/** Links of the stack's own. Those that reach a VM are in `hypervisor/link`. */

export { Pipe, type PipeOptions } from './pipe.ts';
