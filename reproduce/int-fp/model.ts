// The same comparison on the model that ships: weights and the inputs of its linear layers.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { createWasmBackend } from '../../src/backends/wasm/backend.ts';
import { openCheckpoint } from '../../src/io/open.ts';
import { loadTokenizer } from '../../src/io/tokenizer.ts';
import { openWeights } from '../../src/models/weights.ts';
import { packageFile } from '../../src/package-files.ts';
import { loadCalibration } from '../../src/quantize/calibration/windows.ts';
import { compareInputs, compareWeight, linearNames } from '../../src/quantize/qsnr/model.ts';
import { modelSections } from '../../src/quantize/qsnr/report.ts';
import { type PairSummary, summarize, type TensorComparison } from '../../src/quantize/qsnr/tensor.ts';
import { type Claim, factClaim, type Section } from '../../src/report/reproduction.ts';

const models = fileURLToPath(packageFile('models/'));
const rows = 256;
const window = 512;
const samples = 8;

async function compareModel(
  seed: number,
  signal: AbortSignal | undefined,
  onProgress: (fraction: number) => void,
): Promise<{ weights: TensorComparison[]; inputs: TensorComparison[] }> {
  const checkpoint = await openCheckpoint(path.join(models, 'qwen3-6m'));
  const folder = await mkdtemp(path.join(tmpdir(), 'subbyte-'));
  const backend = await createWasmBackend();
  try {
    const weights = await openWeights(checkpoint);
    const text = {
      source: path.join(models, 'calibration.txt.xz'),
      samples,
      window,
      sampling: 'spread',
      seed,
    } as const;
    const { ids } = await loadCalibration(text, await loadTokenizer(checkpoint), { signal });
    const names = linearNames(weights);
    const compared: TensorComparison[] = [];
    for (const [i, name] of names.entries()) {
      const found = await compareWeight(weights, name, rows, seed);
      if (found) compared.push(found);
      onProgress((0.5 * (i + 1)) / names.length);
    }
    const inputs = await compareInputs({
      weights,
      ids,
      window,
      rows,
      backend,
      folder: path.join(folder, 'work'),
      memory: 2 ** 30,
      seed,
      signal,
    });
    onProgress(1);
    return { weights: compared, inputs };
  } finally {
    backend.dispose();
    await checkpoint.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** What the paper found on the operands of Llama-3.1-8B, in its signs. */
function signClaims(summary: readonly PairSummary[]): Claim[] {
  const of = (id: string) => summary.find((s) => s.pair.id === id) as PairSummary;
  const dB = ({ int, float }: { int: number; float: number }) => `${int.toFixed(2)} / ${float.toFixed(2)}`;
  const wins = (s: PairSummary, rotatedToo: boolean) => `${rotatedToo ? s.intWinsRotated : s.intWins} of ${s.tensors}`;
  const [mx8, mx6, mx4, nv4] = ['mx8', 'mx6', 'mx4', 'nv4'].map(of);
  const note = 'mean QSNR in dB over the inputs of this model';
  return [
    factClaim(
      'MXINT8 keeps every input better than MXFP8 (40.35 / 31.50, 100 %)',
      'all',
      `${dB(mx8.measured)}, ${wins(mx8, false)}`,
      mx8.intWins === mx8.tensors,
      note,
    ),
    factClaim(
      'MXFP6 keeps inputs better than MXINT6 (28.57 / 30.39, INT 0.1 %)',
      'INT below 5 %',
      `${dB(mx6.measured)}, INT ${wins(mx6, false)}`,
      mx6.intWins < 0.05 * mx6.tensors,
      note,
    ),
    factClaim(
      'MXFP4 keeps inputs better than MXINT4 (15.89 / 17.98, INT 0.3 %)',
      'INT below 5 %',
      `${dB(mx4.measured)}, INT ${wins(mx4, false)}`,
      mx4.intWins < 0.05 * mx4.tensors,
      note,
    ),
    factClaim(
      'NVFP4 has the better mean, NVINT4 most tensors (20.55 / 20.60, 64.3 %)',
      'both',
      `${dB(nv4.measured)}, INT ${wins(nv4, false)}`,
      nv4.measured.float > nv4.measured.int && nv4.intWins > 0.5 * nv4.tensors,
      note,
    ),
    factClaim(
      'rotated, NVINT4 is better nearly everywhere (21.65 / 20.35, 99.3 %)',
      'INT above 95 %',
      `${dB(nv4.rotated)}, INT ${wins(nv4, true)}`,
      nv4.intWinsRotated > 0.95 * nv4.tensors,
      note,
    ),
    factClaim(
      'rotation helps every integer format',
      'so',
      [mx8, mx6, mx4, nv4].map((s) => `+${(s.rotated.int - s.measured.int).toFixed(2)}`).join(', '),
      [mx8, mx6, mx4, nv4].every((s) => s.rotated.int > s.measured.int),
      note,
    ),
    factClaim(
      'rotation hurts NVFP4',
      'so',
      (nv4.rotated.float - nv4.measured.float).toFixed(2),
      nv4.rotated.float < nv4.measured.float,
      note,
    ),
    factClaim(
      'rotation lowers the crest factor at blocks of 32 (2.96 to 2.36)',
      'lower',
      `${mx8.crest.toFixed(2)} to ${mx8.crestRotated.toFixed(2)}`,
      mx8.crestRotated < mx8.crest,
      'upper quartile over inputs',
    ),
  ];
}

function crestClaim(inputs: readonly TensorComparison[]): Claim {
  const quartile = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(0.75 * values.length)];
  const block = (id: string) =>
    quartile(inputs.flatMap((t) => t.pairs.filter((p) => p.pair.id === id).map((p) => p.crest.mean)));
  const [b16, b32, row] = [block('nv4'), block('mx8'), quartile(inputs.map((t) => t.rowCrest.mean))];
  return factClaim(
    'crest factors: blocks of 16 < 32 < whole rows (2.39, 2.96, 11.97)',
    'so',
    [b16, b32, row].map((v) => v.toFixed(2)).join(', '),
    b16 < b32 && b32 < row,
    'upper quartile over inputs',
  );
}

export async function modelClaims(
  seed: number,
  signal: AbortSignal | undefined,
  onProgress: (fraction: number) => void,
): Promise<{ claims: Claim[]; sections: Section[]; protocol: string }> {
  const { weights, inputs } = await compareModel(seed, signal, onProgress);
  return {
    claims: [...signClaims(summarize(inputs)), crestClaim(inputs)],
    sections: modelSections('models/qwen3-6m', weights, inputs),
    protocol: `Model: models/qwen3-6m, ${weights.length} weights (${rows} evenly spaced rows each) and ${inputs.length} inputs of its linear layers (the first ${rows} of ${samples * window} tokens of models/calibration.txt.xz); the paper has six operands of Llama-3.1-8B in training, gradients too.`,
  };
}
