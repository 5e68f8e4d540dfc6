/* The first program, /init of the initramfs: loads what mounting the root takes, mounts the read-only root image with a
 * tmpfs over it, and hands over to the root's init (init.c), telling it in its arguments when it began and ended. When
 * something fails it says so on the console and ends, which is the kernel's panic and the end of the VM. */

#include "block-device.h"
#include "load-modules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROOT_WAIT_MS 10000

static double uptime(void)
{
	struct timespec now;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void demand(int result, const char *what)
{
	if (result == 0)
		return;
	printf("slipway: %s: %s\n", what, strerror(errno));
	exit(1);
}

int main(void)
{
	char kernel[32];
	char initramfs[32];
	char device[32];
	char *argv[] = { "init", kernel, initramfs, NULL };
	char *envp[] = { "PATH=/usr/sbin:/usr/bin", "HOME=/root", NULL };

	snprintf(kernel, sizeof kernel, "kernel=%.3f", uptime());
	demand(mount("dev", "/dev", "devtmpfs", MS_NOSUID, "mode=755"), "/dev");
	demand(mount("sys", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "/sys");
	load_modules("/modules/list");
	if (find_block_device("slipway-root", device, sizeof device, ROOT_WAIT_MS) != 0) {
		printf("slipway: there is no disk slipway-root\n");
		return 1;
	}
	demand(mount(device, "/root", "erofs", MS_RDONLY, NULL), "mounting the root image");
	demand(mount("rw", "/rw", "tmpfs", 0, "mode=755"), "/rw");
	demand(mkdir("/rw/upper", 0755), "/rw/upper");
	demand(mkdir("/rw/work", 0755), "/rw/work");
	demand(mount("root", "/root", "overlay", 0, "lowerdir=/root,upperdir=/rw/upper,workdir=/rw/work"),
	       "mounting the root's overlay");
	demand(mount("/dev", "/root/dev", NULL, MS_MOVE, NULL), "moving /dev");
	demand(mount("/sys", "/root/sys", NULL, MS_MOVE, NULL), "moving /sys");
	demand(chdir("/root"), "/root");
	demand(mount(".", "/", NULL, MS_MOVE, NULL), "moving the root");
	demand(chroot("."), "chroot");
	snprintf(initramfs, sizeof initramfs, "initramfs=%.3f", uptime());
	execve("/sbin/init", argv, envp);
	demand(-1, "/sbin/init");
}
