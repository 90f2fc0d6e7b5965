// Writes a quantized model as a Hugging Face folder in the compressed-tensors convention, which vLLM and transformers
// load: model.safetensors, config.json with its quantization_config, and the tokenizer's files.

import { readFile, rename, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Format } from '../formats/format.ts';
import { makeFolder } from '../io/make-folder.ts';
import { openCheckpoint } from '../io/open.ts';
import { writeSafetensors } from '../io/safetensors-writer.ts';
import { type CompressedExport, planCompressedTensors } from '../models/compressed-tensors-export.ts';
import type { AnyTensor } from '../tensor/tensor.ts';
import type { OutputJob, OutputKind, OutputReport } from './output.ts';
import { modelFiles } from './sidecars.ts';

/** Hubs and runtimes expect shards of a few gigabytes. */
const maxShardBytes = 5e9;
const marker = 'subbyte.fingerprint';

export const safetensorsOutput: OutputKind = {
  async check(job) {
    planFolder(job);
  },

  /** config.json is written last: a folder with it is whole. */
  async write(job) {
    const plan = planFolder(job);
    await makeFolder(job.path);
    const progress = job.progress(plan.tensors.reduce((n, t) => n + t.byteLength, 0));
    const written = await writeSafetensors({
      path: path.join(job.path, 'model.safetensors'),
      tensors: plan.tensors,
      order: plan.order,
      maxShardBytes,
      metadata: {
        format: 'pt',
        ...Object.fromEntries(Object.entries(job.provenance).map(([key, value]) => [`subbyte.${key}`, value])),
      },
      fingerprint: `${job.plan.fingerprint}:safetensors`,
      signal: job.signal,
      onTensor: (t) => progress.advance(t.byteLength, t.name),
    });
    const sidecars: string[] = [];
    const { files, missing } = await modelFiles(job.checkpoint);
    for (const [file, bytes] of files) {
      await replaceFile(path.join(job.path, file), bytes);
      sidecars.push(path.join(job.path, file));
    }
    const config = path.join(job.path, 'config.json');
    await replaceFile(config, new TextEncoder().encode(`${JSON.stringify(plan.config, null, 2)}\n`));
    return {
      path: job.path,
      files: [...written.files, ...sidecars, config],
      bytes: written.bytes,
      quantizedBytes: quantizedBytes(job, plan.tensors),
      notes: missing ? [...plan.notes, missing] : plan.notes,
      seconds: progress.done(),
    };
  },

  async finished(job): Promise<OutputReport | undefined> {
    const config = await readFile(path.join(job.path, 'config.json')).catch(() => undefined);
    if (!config) return undefined;
    const checkpoint = await openCheckpoint(job.path).catch(() => undefined);
    if (!checkpoint) return undefined;
    try {
      if (checkpoint.metadata.get(marker) !== job.plan.fingerprint) return undefined;
      const tensors = [...checkpoint.tensors.values()];
      const files = [...new Set(tensors.map((t) => t.file))];
      const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
      return {
        path: job.path,
        files,
        bytes: sizes.reduce((a, b) => a + b, 0),
        quantizedBytes: quantizedBytes(job, tensors),
        notes: planFolder(job).notes,
        seconds: 0,
      };
    } finally {
      await checkpoint.close();
    }
  },

  formatInFile(job, name) {
    const asked = job.plan.formats.get(name);
    return asked && storedAs(asked);
  },

  /**
   * A tensor scale is stored as a divisor, unless the scale rule is the container's own: one unit in the last place of
   * the scale (2^-23), and each of the two products rounds once more (2 · 2^-24).
   */
  relativeError(format) {
    const divided = format?.kind === 'quant' && format.scale.tensorScale && format.scale.rule !== 'compressed-tensors';
    return divided ? 2 ** -22 : 0;
  },
};

/** NVFP4 by the container's own scale convention: its tensor scale is stored as a divisor, which then loses nothing. */
function storedAs(format: Format): Format {
  const plainNvfp4 =
    format.kind === 'quant' &&
    format.element === 'e2m1' &&
    format.scale.tensorScale &&
    format.scale.rule === 'absmax' &&
    format.choice === 'none' &&
    format.granularity.kind === 'group';
  return plainNvfp4 ? { ...format, scale: { ...format.scale, rule: 'compressed-tensors' } } : format;
}

function planFolder(job: OutputJob): CompressedExport {
  const { weights, plan } = job;
  return planCompressedTensors({
    model: weights,
    format: (name) => {
      const asked = plan.formats.get(name);
      return asked ? storedAs(asked) : weights.format(name);
    },
    load: (name) => loadForFolder(job, name),
  });
}

async function loadForFolder(job: OutputJob, name: string): Promise<AnyTensor> {
  const tensor = await job.weights.load(name);
  const asked = job.plan.formats.get(name);
  if (!asked || asked.kind === 'float') return tensor;
  return job.quantizer.quantize(tensor, storedAs(asked), {
    seed: job.seed,
    stream: job.streams.get(name) ?? 0,
    name,
  });
}

async function replaceFile(file: string, bytes: Uint8Array): Promise<void> {
  await writeFile(`${file}.partial`, bytes);
  await rename(`${file}.partial`, file);
}

function quantizedBytes(job: OutputJob, tensors: readonly { name: string; byteLength: number }[]): number {
  const layers = new Set([...job.plan.formats.keys()].map((name) => name.replace(/\.weight$/, '')));
  let bytes = 0;
  for (const t of tensors) {
    const cut = t.name.lastIndexOf('.');
    if (t.name.slice(cut + 1).startsWith('weight') && layers.has(t.name.slice(0, cut))) bytes += t.byteLength;
  }
  return bytes;
}
