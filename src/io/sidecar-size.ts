// How large the small files beside the weights may be.

import { modelError } from '../errors.ts';

/** Larger than any tokenizer.json (the largest published ones have about 35 MB). */
const maxSidecarBytes = 512 * 2 ** 20;

/** Throws a model error for a file that is too large to be read whole. */
export function checkSidecarSize(size: number, file: string): void {
  if (size > maxSidecarBytes)
    throw modelError({
      code: 'sidecar-size',
      op: 'read',
      problem: 'the file is far too large for its purpose',
      got: `${size} bytes`,
      expected: `at most ${maxSidecarBytes}`,
      file,
    });
}
