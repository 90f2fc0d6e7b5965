// System errors of files and folders as sentences that a person can act on.

import { deviceError, type ErrorDetails, SubbyteError, userError } from '../errors.ts';

const problems: Record<string, { problem: string; fix: string; kind: 'user' | 'device' }> = {
  ENOENT: { problem: 'no such file or folder', fix: 'check the path', kind: 'user' },
  ENOTDIR: { problem: 'a part of the path is a file, not a folder', fix: 'check the path', kind: 'user' },
  EISDIR: { problem: 'the path is a folder, a file was expected', fix: 'name a file', kind: 'user' },
  EEXIST: { problem: 'a file of that name is in the way', fix: 'choose another path', kind: 'user' },
  EACCES: { problem: 'no permission', fix: 'change the permissions or choose another path', kind: 'user' },
  EPERM: { problem: 'no permission', fix: 'change the permissions or choose another path', kind: 'user' },
  EROFS: { problem: 'the file system is read-only', fix: 'choose another folder', kind: 'user' },
  ENAMETOOLONG: { problem: 'the name is too long', fix: 'choose a shorter name', kind: 'user' },
  ELOOP: { problem: 'symbolic links form a loop', fix: 'check the path', kind: 'user' },
  EMFILE: { problem: 'too many open files', fix: 'raise the limit (ulimit -n)', kind: 'device' },
  ENOSPC: { problem: 'the disk is full', fix: 'free space or choose another folder, then run again', kind: 'device' },
  EDQUOT: { problem: 'the disk quota is used up', fix: 'free space, then run again', kind: 'device' },
  EFBIG: {
    problem: 'the file would be larger than the file system or the ulimit allows',
    fix: 'raise the limit or split the output into shards',
    kind: 'device',
  },
  EIO: { problem: 'the disk reported an input/output error', fix: 'check the disk', kind: 'device' },
};

/** The system's code of an error (`ENOENT`), or undefined. */
export function systemCode(cause: unknown): string | undefined {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  return typeof code === 'string' ? code : undefined;
}

/**
 * A SubbyteError for a failed file operation. `op` is the verb (`read`, `write`). A SubbyteError passes through.
 *
 * @example catch (cause) { throw fileError('write', path, cause); }
 */
export function fileError(op: string, file: string, cause: unknown): SubbyteError {
  if (cause instanceof SubbyteError) return cause;
  const code = systemCode(cause);
  const known = code === undefined ? undefined : problems[code];
  const message = cause instanceof Error ? cause.message : String(cause);
  const details: ErrorDetails = {
    code: `file-${(code ?? 'unknown').toLowerCase()}`,
    op,
    problem: known?.problem ?? message,
    file,
    fix: known?.fix,
  };
  return known?.kind === 'user' ? userError(details, { cause }) : deviceError(details, { cause });
}
