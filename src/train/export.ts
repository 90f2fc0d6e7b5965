// The finished model as a folder that other programs open: safetensors, config.json and the tokenizer's files.

import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readBuffer } from '../backends/read-buffer.ts';
import { fileError } from '../io/file-errors.ts';
import { makeFolder } from '../io/make-folder.ts';
import { writeSafetensors } from '../io/safetensors-writer.ts';
import { planCompressedTensors } from '../models/compressed-tensors-export.ts';
import { expertStacks, type LoadedDecoder } from '../models/loaded.ts';
import { expectedTensors } from '../models/tensors.ts';
import { type Tensor, tensorF32 } from '../tensor/tensor.ts';
import { toolVersion } from '../version.ts';

export interface ExportOptions {
  /** Folder of the model; replaced when it is there. */
  readonly path: string;
  readonly hfConfig: Readonly<Record<string, unknown>>;
  readonly dtype: 'bf16' | 'f32';
  /** Files beside the weights, by name. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Written into the file, with `subbyte.` before each name. */
  readonly provenance: Readonly<Record<string, string>>;
}

/** Writes the weights as they are on the backend, rounded to `dtype` (to nearest even). Returns bytes of weights. */
export async function exportModel(model: LoadedDecoder, options: ExportOptions): Promise<number> {
  const { path, dtype, files, provenance } = options;
  const { config } = model;
  const expected = expectedTensors(config);
  const shape = (name: string) => expected.get(name)?.shape ?? [];
  const hfConfig = { ...options.hfConfig, dtype: dtype === 'bf16' ? 'bfloat16' : 'float32' };
  const plan = planCompressedTensors({
    model: {
      config,
      hfConfig,
      names: () => [...expected.keys()],
      shape,
      role: (name) => expected.get(name)?.role ?? 'linear',
    },
    format: () => ({ kind: 'float', name: dtype }),
    load: reader(model),
  });
  const partial = `${path}.partial`;
  try {
    await rm(partial, { recursive: true, force: true });
    await makeFolder(partial);
    const { bytes } = await writeSafetensors({
      path: join(partial, 'model.safetensors'),
      tensors: plan.tensors,
      order: plan.order,
      maxShardBytes: 5e9,
      metadata: {
        format: 'pt',
        'subbyte.version': toolVersion,
        ...Object.fromEntries(Object.entries(provenance).map(([key, value]) => [`subbyte.${key}`, value])),
      },
    });
    for (const [name, content] of files) await writeFile(join(partial, name), content);
    await writeFile(join(partial, 'config.json'), `${JSON.stringify(plan.config, undefined, 2)}\n`);
    await rm(path, { recursive: true, force: true });
    await rename(partial, path);
    return bytes;
  } catch (cause) {
    await rm(partial, { recursive: true, force: true }).catch(() => undefined);
    throw fileError('write', path, cause);
  }
}

/** Reads tensors by their names in files; experts are cut out of their stacks. */
function reader({ backend, buffers, config }: LoadedDecoder): (name: string) => Promise<Tensor> {
  const places = new Map<string, { stack: string; index: number }>();
  for (const { stack, members } of expertStacks(config))
    for (const [index, name] of members.entries()) places.set(name, { stack, index });
  let last: { stack: string; values: Tensor } | undefined;
  return async (name) => {
    const place = places.get(name);
    const stack = place?.stack ?? name;
    const buffer = buffers.get(stack);
    if (!buffer) throw new Error(`export: ${stack} is not on the backend`);
    const values = last?.stack === stack ? last.values : await readBuffer(backend, stack, buffer);
    if (!place) return values;
    last = { stack, values };
    const [, rows, columns] = values.shape;
    const data = values.data as Float32Array;
    const size = rows * columns;
    return tensorF32([rows, columns], data.slice(place.index * size, (place.index + 1) * size));
  };
}
