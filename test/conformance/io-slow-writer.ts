// Writes a model slowly, so that a test can kill it in the middle: node io-slow-writer.ts FORMAT PATH FINGERPRINT MS.
// Prints a line for each tensor that is on its way to the disk.

import { pathToFileURL } from 'node:url';
import { writeGguf } from '../../src/io/gguf-writer.ts';
import { writeSafetensors } from '../../src/io/safetensors-writer.ts';
import type { StreamOptions } from '../../src/io/tensor-writer.ts';

const count = 12;
const rows = 16;
const cols = 2048;

/** Pseudo-random bytes of tensor i, the same in every run. */
function content(i: number): Uint8Array {
  let state = i + 1;
  return Uint8Array.from({ length: rows * cols }, () => (state = (state * 1664525 + 1013904223) >>> 0) >>> 24);
}

/** `asked` collects the tensors whose content was computed. */
export async function writeModel(
  format: string,
  path: string,
  options: StreamOptions & { pause?: number; asked?: string[]; maxShardBytes?: number },
): Promise<void> {
  const { pause = 0, asked, ...stream } = options;
  const tensors = Array.from({ length: count }, (_, i) => ({
    name: `t${String(i).padStart(2, '0')}`,
    dtype: format === 'gguf' ? 'I8' : 'U8',
    shape: [rows, cols],
    byteLength: rows * cols,
    async *data() {
      asked?.push(`t${String(i).padStart(2, '0')}`);
      const bytes = content(i);
      yield bytes.subarray(0, bytes.byteLength / 2);
      await new Promise((resolve) => setTimeout(resolve, pause));
      yield bytes.subarray(bytes.byteLength / 2);
    },
  }));
  if (format === 'gguf')
    await writeGguf({
      path,
      tensors,
      metadata: [{ key: 'general.architecture', type: 'string', value: 'x' }],
      ...stream,
    });
  else await writeSafetensors({ path, tensors, ...stream });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [format, path, fingerprint, pause] = process.argv.slice(2);
  const maxShardBytes = format === 'sharded' ? 5 * rows * cols : undefined;
  await writeModel(format, path, {
    fingerprint,
    pause: Number(pause),
    maxShardBytes,
    onTensor: ({ name }) => process.stdout.write(`${name}\n`),
  }).catch((error) => {
    process.stdout.write(`${error.kind}: ${error.message}\n`);
    process.exitCode = error.exitCode;
  });
}
