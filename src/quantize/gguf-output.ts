// Writes a quantized model as one GGUF file.

import { stat } from 'node:fs/promises';
import type { Format } from '../formats/format.ts';
import type { Checkpoint } from '../io/checkpoint.ts';
import { writeGguf } from '../io/gguf-writer.ts';
import { openCheckpoint } from '../io/open.ts';
import { type GgufExport, planGguf } from '../models/gguf-export.ts';
import { ggufName } from '../models/gguf-names.ts';
import type { GgufPreset } from '../models/gguf-presets.ts';
import { ggufStorage } from '../models/gguf-storage.ts';
import { copiedTokenizer } from '../models/gguf-tokenizer-copy.ts';
import type { AnyTensor } from '../tensor/tensor.ts';
import type { OutputJob, OutputKind, OutputReport } from './output.ts';
import { sidecarJson, sidecarText } from './sidecars.ts';

export const ggufOutput: OutputKind = {
  async check(job) {
    await planFile(job);
  },

  /** Streams the file: every tensor is read, quantized and written before the next one is read. */
  async write(job) {
    const exported = await planFile(job);
    const progress = job.progress(exported.tensors.reduce((n, t) => n + t.byteLength, 0));
    const written = await writeGguf({
      path: job.path,
      metadata: exported.metadata,
      tensors: exported.tensors,
      fingerprint: `${job.plan.fingerprint}:gguf`,
      signal: job.signal,
      onTensor: (t) => progress.advance(t.byteLength, t.name),
    });
    return {
      path: job.path,
      files: [job.path],
      bytes: written.bytes,
      quantizedBytes: quantizedBytes(job, exported.tensors),
      notes: exported.notes,
      seconds: progress.done(),
    };
  },

  async finished(job): Promise<OutputReport | undefined> {
    const file = await stat(job.path).catch(() => undefined);
    if (!file?.isFile()) return undefined;
    // a file that cannot be read is replaced like any other
    const checkpoint = await openCheckpoint(job.path).catch(() => undefined);
    if (!checkpoint) return undefined;
    try {
      if (checkpoint.metadata.get('subbyte.fingerprint') !== job.plan.fingerprint) return undefined;
      const exported = await planFile(job);
      return {
        path: job.path,
        files: [job.path],
        bytes: file.size,
        quantizedBytes: quantizedBytes(job, [...checkpoint.tensors.values()]),
        notes: exported.notes,
        seconds: 0,
      };
    } finally {
      await checkpoint.close();
    }
  },

  formatInFile(job, name) {
    const asked = job.plan.formats.get(name);
    return asked && storage(job, name, asked);
  },

  relativeError: () => 0,
};

/** ggml types fall back where K does not fit their block. */
function storage({ weights }: OutputJob, name: string, asked: Format): Format {
  return ggufStorage(name, weights.role(name), weights.shape(name), asked).format;
}

async function planFile(job: OutputJob): Promise<GgufExport> {
  const { weights, plan, checkpoint } = job;
  const kept = await keptFormats(job);
  const copied = storedTokenizer(checkpoint);
  return planGguf({
    model: weights,
    format: (name) => plan.formats.get(name) ?? kept.get(name) ?? { kind: 'float', name: 'f32' },
    load: (name) => loadForFile(job, name),
    tokenizerEntries: copied,
    tokenizer: {
      tokenizer: copied
        ? undefined
        : await sidecarJson(checkpoint, 'tokenizer.json', 'a GGUF file carries its tokenizer'),
      tokenizerConfig: await sidecarJson(checkpoint, 'tokenizer_config.json'),
      chatTemplate: await sidecarText(checkpoint, 'chat_template.jinja'),
    },
    name: job.name,
    preset: job.preset as GgufPreset | undefined,
    provenance: job.provenance,
  });
}

function storedTokenizer({ container, metadata, location }: Checkpoint) {
  return container === 'gguf' ? copiedTokenizer(metadata, location) : undefined;
}

/** A tensor as the file wants it; floats are converted by the writer. */
async function loadForFile(job: OutputJob, name: string): Promise<AnyTensor> {
  const tensor = await job.weights.load(name);
  const asked = job.plan.formats.get(name);
  const format = asked && storage(job, name, asked);
  if (!format || format.kind === 'float') return tensor;
  return job.quantizer.quantize(tensor, format, { seed: job.seed, stream: job.streams.get(name) ?? 0, name });
}

/** Storage formats of the matrices that are not quantized. */
async function keptFormats({ weights, plan }: OutputJob): Promise<Map<string, Format>> {
  const formats = new Map<string, Format>();
  for (const name of weights.names())
    if (!plan.formats.has(name) && weights.shape(name).length > 1) formats.set(name, weights.format(name));
  return formats;
}

function quantizedBytes(job: OutputJob, tensors: readonly { name: string; byteLength: number }[]): number {
  const stem = (name: string) => name.replace(/\.(weight|scale)$/, '');
  const quantized = new Set([...job.plan.formats.keys()].map((name) => stem(ggufName(name)?.name ?? name)));
  let bytes = 0;
  for (const t of tensors) if (!t.name.endsWith('.bias') && quantized.has(stem(t.name))) bytes += t.byteLength;
  return bytes;
}
