// subbyte formats compare: which of an integer and a float format of equal bits keeps a tensor better, on random signals
// or on the tensors of a model.

import { Option } from 'commander';
import { userError } from '../errors.ts';
import { takingTurns } from '../evaluate/yield.ts';
import { compareGranularity, type GranularityRow } from '../quantize/qsnr/granularity.ts';
import { formatPairs, type Granularity, pairElements, scaleModel } from '../quantize/qsnr/pairs.ts';
import { modelSections } from '../quantize/qsnr/report.ts';
import { clippingSection, studyClipping } from '../quantize/qsnr/report-clipping.ts';
import { crestCurve, crossoverSection, curveSection, granularitySections } from '../quantize/qsnr/report-theory.ts';
import { type Signal, signals } from '../quantize/qsnr/signals.ts';
import { summarize, type TensorComparison } from '../quantize/qsnr/tensor.ts';
import { predictedQsnr } from '../quantize/qsnr/theory.ts';
import type { Report, Section } from '../report/reproduction.ts';
import { writeReport } from '../report/write.ts';
import { type CommandDefinition, parseCount, parseList, parseNumber } from './command.ts';
import { deviceOption } from './device.ts';
import type { ModelOptions } from './formats-compare-model.ts';
import type { Session } from './session.ts';
import { renderTable } from './table.ts';

interface CompareOptions extends ModelOptions {
  out?: string;
  crest?: number;
  granularity?: string[];
  signal?: string[];
  samples: number;
}

const definition: CommandDefinition = {
  name: 'compare',
  summary: 'integers against floats of equal bits: on random signals, or on the tensors of a model',
  arguments: [['[model]', 'folder, .safetensors, .gguf or hub id (default: random signals)']],
  options: [
    new Option('--crest <factor>', 'instead: what suits blocks with this crest factor, max|x| / RMS(x)').argParser(
      parseNumber,
    ),
    new Option('--granularity <list>', 'values that share a scale (default: 16,32,64,128,256,channel)').argParser(
      parseList,
    ),
    new Option('--signal <list>', `random signals: ${signals.join(', ')} (default: gaussian,laplace)`).argParser(
      parseList,
    ),
    new Option('--samples <n>', 'values of a random signal').default(2 ** 18).argParser(parseCount),
    new Option('--rows <n>', 'of a model: rows of each tensor to compare').default(256).argParser(parseCount),
    new Option('--weights-only', 'of a model: leave out the inputs of its layers, which need text'),
    new Option('--filter <text>', 'of a model: only weights whose name contains this'),
    new Option('--calib <source>', 'text, JSONL or Parquet for the inputs (default: a sample that ships)'),
    new Option('--windows <n>', 'windows of that text').default(8).argParser(parseCount),
    new Option('--window <n>', 'tokens of a window').default(512).argParser(parseCount),
    deviceOption().default('wasm'),
    new Option('--out <folder>', 'write report.md with plots (SVG, PNG, JSON) there'),
  ],
  examples: [
    'subbyte formats compare',
    'subbyte formats compare --crest 2.96 --granularity 32',
    'subbyte formats compare models/qwen3-6m --out out/formats',
    'subbyte formats compare model.gguf --weights-only --filter down_proj --json',
  ],
  async run(session, [model], raw) {
    const options = raw as unknown as CompareOptions;
    if (options.crest !== undefined) return advise(session, options.crest, options.granularity);
    if (model !== undefined) return onModel(session, model, options);
    return onSignals(session, options);
  },
};

const standardGranularities: Granularity[] = [16, 32, 64, 128, 256, 'channel'];

function readGranularities(list: readonly string[] | undefined): Granularity[] {
  return (list ?? []).map((text) => {
    if (text === 'channel') return text;
    const size = Number(text);
    if (Number.isInteger(size) && size >= 2 && size <= 4096 && 4096 % size === 0) return size;
    throw userError({
      code: 'granularity',
      op: 'formats compare',
      problem: 'not a granularity of rows of 4096',
      got: JSON.stringify(text),
      expected: 'a power of two from 2 to 4096, or channel',
    });
  });
}

function readSignals(list: readonly string[] | undefined): Signal[] {
  return (list ?? ['gaussian', 'laplace']).map((text) => {
    const found = signals.find((s) => s === text);
    if (found) return found;
    throw userError({
      code: 'signal',
      op: 'formats compare',
      problem: 'there is no such signal',
      got: JSON.stringify(text),
      expected: signals.join(', '),
    });
  });
}

async function onSignals(session: Session, options: CompareOptions): Promise<void> {
  const granularities = options.granularity ? readGranularities(options.granularity) : standardGranularities;
  const chosen = readSignals(options.signal);
  const { samples } = options;
  if (samples < 4096 || samples > 2 ** 26)
    throw userError({
      code: 'samples',
      op: 'formats compare',
      problem: '--samples is out of range',
      got: samples,
      expected: '4096 to 67108864',
    });
  const { seed } = session.options;
  const turn = takingTurns(session.signal);
  const progress = session.progress(
    'compare',
    formatPairs.length * (granularities.length * chosen.length + 1),
    'steps',
  );
  const rows: GranularityRow[] = [];
  const curves = [];
  for (const pair of formatPairs) {
    for (const granularity of granularities)
      for (const signal of chosen) {
        await turn();
        rows.push(compareGranularity(pair, granularity, signal, { samples, seed }));
        progress.advance(1, `${pair.names.join('/')} ${granularity} ${signal}`);
      }
    await turn();
    curves.push(crestCurve(pair, { samples, seed }));
    progress.advance(1, `${pair.names.join('/')} by crest factor`);
  }
  await turn();
  const clipping = studyClipping(seed);
  progress.advance(1, 'symmetric clipping');
  progress.done();
  const protocol = `About ${samples.toLocaleString('en')} values of each signal in rows of 4096 through the reference codec, seed ${seed}; student-t has 4 degrees of freedom. Curves: uniform, Gaussian, Laplace and student-t blocks at random scales, gathered by crest factor.`;
  const sections = [
    crossoverSection(curves),
    ...curves.map(curveSection),
    ...granularitySections(rows),
    clippingSection(clipping),
  ];
  await finish(session, 'Integer and float formats on random signals', protocol, sections, options.out, {
    crossovers: curves.map(({ pair, bins, ...c }) => ({ names: pair.names, published: pair.published, ...c, bins })),
    rows: rows.map(({ pair, ...row }) => ({ pair: pair.id, names: pair.names, ...row })),
    clipping,
  });
}

async function onModel(session: Session, model: string, options: CompareOptions): Promise<void> {
  // loaded here: models, backends and calibration are a second of start that random signals do not need
  const { compareModel } = await import('./formats-compare-model.ts');
  const { weights, inputs, protocol, skipped } = await compareModel(session, model, options);
  const sections = modelSections(model, weights, inputs);
  if (skipped.length > 0)
    session.warn(`  note         left out, as no block of 16 divides a row or all values are 0: ${skipped.join(', ')}`);
  const plain = (tensors: readonly TensorComparison[]) => ({
    summary: summarize(tensors).map(({ pair, ...s }) => ({ names: pair.names, ...s })),
    tensors: tensors.map((t) => ({ ...t, pairs: t.pairs.map(({ pair, ...p }) => ({ names: pair.names, ...p })) })),
  });
  await finish(session, `Integer and float formats on ${model}`, protocol, sections, options.out, {
    weights: plain(weights),
    inputs: plain(inputs),
    skipped,
  });
}

/** Prints the tables, writes the report, and hands over the result. */
async function finish(
  session: Session,
  title: string,
  protocol: string,
  sections: Section[],
  out: string | undefined,
  result: object,
): Promise<void> {
  for (const section of sections) {
    if (!section.table) continue;
    session.print(session.color.bold(section.title));
    const columns = section.table.columns.map((column) => ({ title: column }));
    session.print(`${renderTable(columns, section.table.rows)}\n`);
  }
  session.print(protocol);
  const report: Report = {
    title,
    paper:
      'Closed forms and their source: arXiv 2510.25602. κ is the crest factor, max|x| / RMS(x), of the values that share a scale.',
    protocol,
    claims: [],
    corrections: [],
    sections,
  };
  const { files, warning } = out === undefined ? { files: [] } : await writeReport('formats compare', report, out);
  if (files.length > 0) session.print(`report: ${files[0]} (${files.length - 1} plot files)`);
  if (warning !== undefined) session.warn(`  note         ${warning}`);
  session.result({ ...result, protocol, files });
}

/** What the closed forms recommend for a crest factor. */
function advise(session: Session, crest: number, list: readonly string[] | undefined): void {
  const [granularity] = readGranularities(list);
  const rows = formatPairs.map((pair) => {
    const block = granularity === undefined ? pair.block : granularity === 'channel' ? 4096 : granularity;
    const scale = scaleModel(pair, block);
    const [int, float] = pairElements(pair).map((element) => predictedQsnr(element, crest, { scale }));
    const [better, gain] = int > float ? [pair.names[0], int - float] : [pair.names[1], float - int];
    return { names: pair.names, block, int, float, better, gain, possible: crest <= Math.sqrt(block) };
  });
  session.print(
    renderTable(
      [
        { title: 'formats' },
        { title: 'block', align: 'right' },
        { title: 'QSNR dB', align: 'right' },
        { title: 'better' },
        { title: '' },
      ],
      rows.map((r) => [
        r.names.join(' / '),
        String(r.block),
        `${r.int.toFixed(2)} / ${r.float.toFixed(2)}`,
        `${r.better} by ${r.gain.toFixed(2)}`,
        r.possible ? '' : `no block of ${r.block} has a crest factor above ${Math.sqrt(r.block).toFixed(2)}`,
      ]),
    ),
  );
  session.print(
    'Closed forms with exact codes, ρ 1.5 for powers of two and 1.05 for E4M3 scales; good to about 0.5 dB.',
  );
  session.result({ crest, formats: rows });
}

export default definition;
