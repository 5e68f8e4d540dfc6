/**
 * Nothing, as a number that V8 keeps as a double; it counts, compares and adds as 0 does. A field that begins with a small
 * integer and is later given a fraction, or more than 31 bits hold, changes the shape of its class: all code that was
 * compiled for objects of it is thrown away, in the middle of the traffic that it was compiled for. So fields of times,
 * MAC addresses and counts of octets begin with this.
 */
export const DOUBLE_ZERO = -0;
