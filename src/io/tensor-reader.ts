// The part of a Checkpoint that every container shares: reading tensors from their sources by name.

import { modelError, userError } from '../errors.ts';
import type { Checkpoint, TensorInfo } from './checkpoint.ts';
import type { ByteSource } from './source.ts';

/** `read`, `readRange` and `close` over the sources of a checkpoint, keyed by TensorInfo.file. */
export function tensorReader(
  op: string,
  tensors: ReadonlyMap<string, TensorInfo>,
  sources: ReadonlyMap<string, ByteSource>,
): Pick<Checkpoint, 'read' | 'readRange' | 'close'> {
  const readRange = async (name: string, offset: number, length: number): Promise<Uint8Array> => {
    const tensor = tensors.get(name);
    if (!tensor)
      throw userError({
        code: 'tensor-unknown',
        op,
        problem: 'the checkpoint has no such tensor',
        tensor: name,
        file: [...sources.keys()][0],
      });
    if (!(offset >= 0 && length >= 0 && offset + length <= tensor.byteLength))
      throw new Error(`readRange: bytes ${offset}…${offset + length} of ${name}, which has ${tensor.byteLength}`);
    try {
      return await sources.get(tensor.file)!.read(tensor.byteOffset + offset, length);
    } catch (cause) {
      throw modelError(
        {
          code: 'tensor-unreadable',
          op,
          problem: `the tensor cannot be read: ${cause instanceof Error ? cause.message : cause}`,
          tensor: name,
          file: tensor.file,
        },
        { cause },
      );
    }
  };
  return {
    read: (name) => readRange(name, 0, tensors.get(name)?.byteLength ?? 0),
    readRange,
    close: async () => {
      await Promise.all([...sources.values()].map((s) => s.close()));
    },
  };
}
