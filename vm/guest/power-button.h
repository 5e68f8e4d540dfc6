/* The machine's power button, which the host presses when the agent does not answer (QMP system_powerdown). */

#ifndef SLIPWAY_POWER_BUTTON_H
#define SLIPWAY_POWER_BUTTON_H

/* Looks for the button, once its modules are loaded. */
void power_button_open(void);

/* Readable when something was pressed; -1 when there is no button. */
int power_button_fd(void);

/* Reads what was pressed; 1 when it was the power button. */
int power_button_pressed(void);

#endif
