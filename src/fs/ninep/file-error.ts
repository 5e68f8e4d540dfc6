/** Why a file operation is refused: Linux's number for 9P2000.u and 9P2000.L, its words for 9P2000. */

/** Linux's errno values and texts; v9fs knows these texts under 9P2000 and turns them into the numbers again. */
const errors = {
  EPERM: [1, 'Operation not permitted'],
  ENOENT: [2, 'No such file or directory'],
  EINTR: [4, 'Interrupted system call'],
  EIO: [5, 'Input/output error'],
  EBADF: [9, 'Bad file descriptor'],
  ENOMEM: [12, 'Cannot allocate memory'],
  EACCES: [13, 'Permission denied'],
  EBUSY: [16, 'Device or resource busy'],
  EEXIST: [17, 'File exists'],
  EXDEV: [18, 'Invalid cross-device link'],
  ENOTDIR: [20, 'Not a directory'],
  EISDIR: [21, 'Is a directory'],
  EINVAL: [22, 'Invalid argument'],
  EFBIG: [27, 'File too large'],
  ENOSPC: [28, 'No space left on device'],
  ESPIPE: [29, 'Illegal seek'],
  EROFS: [30, 'Read-only file system'],
  ENAMETOOLONG: [36, 'File name too long'],
  ENOTEMPTY: [39, 'Directory not empty'],
  ELOOP: [40, 'Too many symbolic links encountered'],
  EPROTO: [71, 'Protocol error'],
  EMSGSIZE: [90, 'Message too long'],
  EOPNOTSUPP: [95, 'Operation not supported on transport endpoint'],
  ENOBUFS: [105, 'No buffer space available'],
} as const satisfies Record<string, readonly [number, string]>;

export type FileErrorCode = keyof typeof errors;

export class FileError extends Error {
  readonly code: FileErrorCode;

  /** `detail` takes the place of the standard words, for what has none. */
  constructor(code: FileErrorCode, detail?: string) {
    super(detail ?? errors[code][1]);
    this.code = code;
  }

  get errno(): number {
    return errors[this.code][0];
  }
}

/** What a backend threw, as an error to answer with. */
export function asFileError(thrown: unknown): FileError {
  if (thrown instanceof FileError) return thrown;
  return new FileError('EIO', thrown instanceof Error ? thrown.message : String(thrown));
}
