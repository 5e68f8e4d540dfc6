/* See data-disk.h. Only a disk whose first MiB is blank is formatted; anything else is somebody's data and is checked
 * and repaired, never made anew. A disk that the host has enlarged is grown into. */

#include "data-disk.h"
#include "block-device.h"
#include "events.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 10000
#define LOOK_OCTETS (1 << 20)
#define E2FSCK_UNCORRECTED 4
#define REPAIRS 3
#define SUPERBLOCK 1024

static const struct {
	const char *path;
	mode_t mode;
} folders[] = {
	{ "/var/cache", 0755 }, { "/var/lib", 0755 }, { "/var/log", 0755 }, { "/var/spool", 0755 }, { "/var/tmp", 01777 },
};

/* The program's exit status, or 255. */
static int run(const char *const argv[])
{
	int status = 0;
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);
		dup2(null, 0);
		dup2(null, 1);
		execv(argv[0], (char *const *)argv);
		_exit(255);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return 255;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int is_blank(const char *device)
{
	static char octets[65536];
	int blank = 1;
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	for (int seen = 0; blank && seen < LOOK_OCTETS; seen += (int)sizeof octets) {
		ssize_t length = read(fd, octets, sizeof octets);
		if (length <= 0)
			break;
		blank = octets[0] == 0 && memcmp(octets, octets + 1, (size_t)length - 1) == 0;
	}
	close(fd);
	return blank;
}

/* Whether the file system ends well before the disk does. */
static int has_grown(const char *device)
{
	unsigned char super[1024];
	uint64_t octets = 0;
	int grown = 0;
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (pread(fd, super, sizeof super, SUPERBLOCK) == (ssize_t)sizeof super && ioctl(fd, BLKGETSIZE64, &octets) == 0) {
		uint32_t low, high, shift;
		memcpy(&low, super + 4, 4);     /* s_blocks_count_lo */
		memcpy(&shift, super + 24, 4);  /* s_log_block_size */
		memcpy(&high, super + 336, 4);  /* s_blocks_count_hi */
		uint64_t used = ((uint64_t)high << 32 | low) << (10 + (shift & 7));
		grown = octets > used && octets - used >= (uint64_t)LOOK_OCTETS * 16;
	}
	close(fd);
	return grown;
}

static int format(const char *device)
{
	const char *const argv[] = { "/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-m", "1", "-L", "slipway-data",
				     "-E", "lazy_itable_init=1,lazy_journal_init=1,discard", device, NULL };
	int status = run(argv);
	if (status != 0)
		event_panic("the data disk cannot be formatted (mke2fs ended with %d)", status);
	return status;
}

static int check(const char *device)
{
	const char *const gently[] = { "/usr/sbin/e2fsck", "-p", device, NULL };
	const char *const anyhow[] = { "/usr/sbin/e2fsck", "-y", device, NULL };
	int status = run(gently);
	/* After repairs from a backup superblock e2fsck wants another look. */
	for (int tries = 0; status >= E2FSCK_UNCORRECTED && tries < REPAIRS; tries++) {
		event_log("the data disk is damaged and is being repaired (e2fsck ended with %d)", status);
		status = run(anyhow);
	}
	if (status >= E2FSCK_UNCORRECTED)
		event_panic("the data disk is damaged beyond repair (e2fsck ended with %d); 'slipway reset' makes a new one",
			    status);
	return status >= E2FSCK_UNCORRECTED;
}

int mount_data_disk(void)
{
	char device[32];
	if (find_block_device("slipway-data", device, sizeof device, WAIT_MS) != 0) {
		event_panic("there is no disk slipway-data");
		return 1;
	}
	if ((is_blank(device) ? format(device) : check(device)) != 0)
		return 1;
	int grown = has_grown(device);
	if (mount(device, "/var", "ext4", MS_NOATIME, "discard,commit=1") != 0) {
		event_panic("the data disk cannot be mounted: %s", strerror(errno));
		return 1;
	}
	if (grown) {
		const char *const argv[] = { "/usr/sbin/resize2fs", device, NULL };
		int status = run(argv);
		event_log(status == 0 ? "the data disk has grown" : "the data disk cannot be grown into (resize2fs: %d)", status);
	}
	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
		mkdir(folders[i].path, folders[i].mode);
		chmod(folders[i].path, folders[i].mode);
	}
	symlink("../run", "/var/run");
	symlink("../run/lock", "/var/lock");
	return 0;
}
