/** RFC 2883, An Extension to the Selective Acknowledgement (SACK) Option for TCP: octets that came twice. By section. */

import t from 'tap';
import { established } from '../stack/tcp/tcp-script.ts';

t.test('4.1: a segment that came before is reported, once', async (t) => {
  const s = established(t, '<mss 1000,wscale 7,sackOK>');
  s.guestSends('. 1:101(100) ack 1');
  s.expect('. 1:1(0) ack 101');
  s.guestSends('. 1:101(100) ack 1');
  s.expect('. 1:1(0) ack 101 <sack 1:101>');
  s.guestSends('. 101:201(100) ack 1');
  s.expect('. 1:1(0) ack 201');
});

t.test('4.1: together with what waits, the duplicate first', async (t) => {
  const s = established(t, '<mss 1000,wscale 7,sackOK>');
  s.guestSends('. 1:101(100) ack 1', '. 201:301(100) ack 1');
  s.expect('. 1:1(0) ack 101 <sack 201:301>');
  s.guestSends('. 51:101(50) ack 1');
  s.expect('. 1:1(0) ack 101 <sack 51:101 201:301>');
});

t.test('4.2: of a segment that came in part, the part', async (t) => {
  const s = established(t, '<mss 1000,wscale 7,sackOK>');
  s.guestSends('. 1:101(100) ack 1');
  s.expect('. 1:1(0) ack 101');
  s.guestSends('. 51:151(100) ack 1');
  s.expect('. 1:1(0) ack 151 <sack 51:101>');
});

t.test('4: not without permission', async (t) => {
  const s = established(t, '<mss 1000,wscale 7>');
  s.guestSends('. 1:101(100) ack 1');
  s.expect('. 1:1(0) ack 101');
  s.guestSends('. 1:101(100) ack 1');
  s.expect('. 1:1(0) ack 101');
});
