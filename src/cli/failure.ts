// Failures as what a user can act on, whatever threw them: system errors and exhausted memory become SubbyteErrors
// here; what is left is a defect of subbyte itself (exit code 70).

import { deviceError, SubbyteError } from '../errors.ts';
import { fileError, systemCode } from '../io/file-errors.ts';

/** Exit code of a defect, as sysexits.h has it. */
export const defectExitCode = 70;

/** The same error, or the SubbyteError that it stands for. */
export function asKnownError(error: unknown, command: string): unknown {
  if (error instanceof SubbyteError || !(error instanceof Error)) return error;
  if (error instanceof RangeError && /allocat|memory/i.test(error.message))
    return deviceError(
      {
        code: 'out-of-memory',
        op: command,
        problem: `not enough memory (${error.message})`,
        fix: 'close other programs, or use a smaller --window',
      },
      { cause: error },
    );
  const file = 'path' in error && typeof error.path === 'string' ? error.path : undefined;
  if (file !== undefined && systemCode(error) !== undefined) return fileError(command, file, error);
  return error;
}

/** What went wrong, for scripts. */
export function errorBody(error: unknown): object {
  if (error instanceof SubbyteError)
    return { kind: error.kind, exitCode: error.exitCode, message: error.message, ...error.details };
  return { kind: 'internal', exitCode: defectExitCode, message: String(error) };
}

/** One JSON document as a line; JSON has no NaN, Infinity or bigint: null and decimal strings stand for them. */
export function jsonLine(document: object): string {
  return `${JSON.stringify(document, jsonValue)}\n`;
}

function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'number' && !Number.isFinite(value)) return null;
  return value;
}
