/* Loads kernel modules by a list that the image's builder has put in order. */

#ifndef SLIPWAY_LOAD_MODULES_H
#define SLIPWAY_LOAD_MODULES_H

/* Loads every module named by a line of `list`; those that are there already are fine. The number that failed, each
 * told on stderr. */
int load_modules(const char *list);

#endif
