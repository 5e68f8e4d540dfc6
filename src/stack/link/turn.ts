/** Turns of the event loop, in Node and in browsers: promises alone would keep timers and other work waiting. */

const immediate = (globalThis as { setImmediate?: (run: () => void) => unknown }).setImmediate;

/** A way to have functions called in the next turn, in order. */
export function turns(): (run: () => void) => void {
  if (immediate) return (run) => void immediate(run);
  const waiting: (() => void)[] = [];
  const { port1, port2 } = new MessageChannel();
  port1.addEventListener('message', () => waiting.shift()?.());
  port1.start();
  return (run) => {
    waiting.push(run);
    port2.postMessage(undefined);
  };
}
