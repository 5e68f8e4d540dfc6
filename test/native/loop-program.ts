/** What a process does that stands on the native event loop, by the name in its first argument. */

import { EventLoop } from '../../src/native/event-loop.ts';
import { Place } from '../../src/native/memory.ts';
import { Readiness } from '../../src/native/readiness.ts';
import { close, EPOLLIN, eventfd, SOCK_CLOEXEC, SOCK_NONBLOCK, write } from '../../src/native/system-calls.ts';

const readiness = new Readiness();
const one = new Place(8);
one.view.setUint32(0, 1, true);

/** A descriptor that is ready for ever. */
function busy(handler: () => void, keepsAlive = true): { fd: number; stop: () => void } {
  const fd = eventfd(1, SOCK_CLOEXEC | SOCK_NONBLOCK);
  const registration = readiness.add(fd, EPOLLIN, { ready: handler }, keepsAlive);
  return {
    fd,
    stop: () => {
      readiness.remove(registration);
      close(fd);
    },
  };
}

const deeds: Record<string, () => void> = {
  // Nothing that holds the process: it ends at once.
  unheld: () => {
    busy(() => {}, false);
    console.log('started');
  },
  // A handler that throws ends the process as any uncaught error does.
  throwing: () => {
    process.on('uncaughtException', (error) => {
      console.log(`caught ${error.message}`);
      process.exit(3);
    });
    busy(() => {
      throw new Error('a bug');
    });
  },
  // A rejection left behind by a handler is as unhandled as any.
  rejecting: () => {
    process.on('unhandledRejection', (reason) => {
      console.log(`unhandled ${String(reason)}`);
      process.exit(4);
    });
    busy(() => void Promise.reject('nobody'));
  },
  // Signals are heard while the loop is never idle, and while it waits.
  signalled: () => {
    const { stop } = busy(() => {});
    process.once('SIGUSR2', () => {
      stop();
      const idle = eventfd(0, SOCK_CLOEXEC | SOCK_NONBLOCK);
      const registration = readiness.add(idle, EPOLLIN, { ready: () => {} });
      process.once('SIGUSR2', () => {
        console.log('twice');
        readiness.remove(registration);
      });
      console.log('once');
    });
    console.log('started');
  },
  // What is to be done soon, or when it is quiet, is done, though nothing else is left.
  soon: () => {
    EventLoop.get().soon(() => {
      console.log('soon');
      EventLoop.get().quiet(() => console.log('quiet'));
      EventLoop.get().soon(() => console.log('and again'));
    });
  },
  // The same asked for together, from outside of the loop.
  both: () => {
    EventLoop.get().soon(() => console.log('soon'));
    EventLoop.get().quiet(() => console.log('quiet'));
  },
  // A descriptor of another process wakes the loop out of a wait without end.
  woken: () => {
    const fd = eventfd(0, SOCK_CLOEXEC | SOCK_NONBLOCK);
    const registration = readiness.add(fd, EPOLLIN, {
      ready: () => {
        readiness.remove(registration);
        console.log('woken');
      },
    });
    process.stdin.once('data', () => {
      write(fd, one.address, 8);
      process.stdin.destroy();
    });
    console.log('started');
  },
};

deeds[process.argv[2]!]!();
