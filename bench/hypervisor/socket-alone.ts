/** Reads from a blocking socket, 64 KiB a call, and does nothing else: what the kernel's share costs. Argument: PORT */

import { Place } from '../../src/native/memory.ts';
import { connectSocket, recv, SOCKADDR, socket } from '../../src/native/system-calls.ts';

const AF_INET = 2;
const SOCK_STREAM = 1;
const OCTETS = 64 << 10;
/** As much memory as a flow has, so that caches are as cold. */
const PLACES = 32;

const [port = ''] = process.argv.slice(2);
const address = new Place(SOCKADDR);
address.view.setUint16(0, AF_INET, true);
address.view.setUint16(2, Number(port));
address.view.setUint32(4, 0x7f000001);
const fd = socket(AF_INET, SOCK_STREAM, 0);
if (connectSocket(fd, address.address, 16) < 0) throw new Error(`cannot connect to port ${port}`);
const memory = new Place(PLACES * OCTETS);
for (let index = 0; recv(fd, memory.address + index * OCTETS, OCTETS, 0) > 0; index = (index + 1) % PLACES);
