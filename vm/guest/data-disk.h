/* The data disk, all that outlives the VM: made at first boot, checked at each, mounted on /var. */

#ifndef SLIPWAY_DATA_DISK_H
#define SLIPWAY_DATA_DISK_H

/* 0 when /var is mounted and ready for use; otherwise what is wrong has been told. */
int mount_data_disk(void);

#endif
