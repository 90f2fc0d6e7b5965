// subbyte laws predict: the loss (or what a format costs) at a size and a number of tokens.

import { Option } from 'commander';
import { userError } from '../errors.ts';
import { predictionInterval } from '../laws/bootstrap.ts';
import { chinchilla } from '../laws/chinchilla.ts';
import { criticalTokens } from '../laws/floating-point-optimum.ts';
import type { Law, Point } from '../laws/law.ts';
import { predict } from '../laws/law.ts';
import { qatBase, qatCriticalTokens, qatEfficiency } from '../laws/qat.ts';
import { findLaw, publishedSet, schemesOf } from '../laws/registry.ts';
import { type CommandDefinition, parseNumber } from './command.ts';
import { parseAmount, readFit } from './laws-input.ts';
import { renderTable } from './table.ts';

interface PredictOptions {
  n: number;
  d: number;
  coefficients?: string;
  fit?: string;
  group?: number;
  block?: number;
  eBits?: number;
  mBits?: number;
  wBits?: number;
  aBits?: number;
  kvBits?: number;
  forward?: string;
  backward?: string;
}

interface Source {
  law: Law;
  values: Readonly<Record<string, number>>;
  name: string;
  source: string;
  samples: readonly Readonly<Record<string, number>>[];
  level: number;
}

const number = (flags: string, description: string) => new Option(flags, description).argParser(parseNumber);

const definition: CommandDefinition = {
  name: 'predict',
  summary: 'the loss, or what a format costs, at a size and a number of tokens',
  arguments: [['[law]', 'a law of `subbyte laws`; not needed with --fit']],
  options: [
    new Option('--n <count>', 'non-embedding parameters: 7e9 or 7B').argParser(parseAmount).makeOptionMandatory(),
    new Option('--d <count>', 'training tokens: 1e12 or 1T').argParser(parseAmount).makeOptionMandatory(),
    new Option('--coefficients <name>', 'a published set of `subbyte laws`, such as w4a16 (default: the first)'),
    new Option('--fit <file>', 'coefficients of `subbyte laws fit --out`, with its intervals'),
    number('--group <size>', 'elements that share a scale (qat)'),
    number('--block <size>', 'elements that share a scale (floating-point)'),
    number('--e-bits <bits>', 'exponent bits (floating-point)'),
    number('--m-bits <bits>', 'mantissa bits (floating-point)'),
    number('--w-bits <bits>', 'bits of weights (precision)'),
    number('--a-bits <bits>', 'bits of activations (precision)'),
    number('--kv-bits <bits>', 'bits of the KV cache (precision)'),
    new Option('--forward <scheme>', 'forward scheme (quartet, quest)'),
    new Option('--backward <scheme>', 'backward scheme (quartet)'),
  ],
  examples: [
    'subbyte laws predict outer-exponent --n 7B --d 2T',
    'subbyte laws predict qat --n 1B --d 100B --group 32',
    'subbyte laws predict quartet --n 1B --d 100B --forward QuEST --backward AlbertTsengQuantizer',
    'subbyte laws predict floating-point --n 1B --d 1T --e-bits 2 --m-bits 1 --block 128',
    'subbyte laws predict --fit fit.json --n 1B --d 100B --json',
  ],
  async run(session, [id], raw) {
    const options = raw as unknown as PredictOptions;
    const chosen = await choose(id, options);
    const point = pointOf(options);
    const predicted = predict(chosen.law, chosen.values, point);
    const { samples, level } = chosen;
    const interval = samples.length > 0 ? predictionInterval({ law: chosen.law, samples, level }, point) : undefined;
    const extra = consequences(chosen, point, predicted);
    const rows: [string, string][] = [
      [chosen.law.predicts === 'gap' ? 'gap, nats' : 'loss, nats', predicted.toFixed(4)],
      ...(interval
        ? [[`${100 * level} % interval`, interval.map((v) => v.toFixed(4)).join(' to ')] as [string, string]]
        : []),
      ...extra.map(({ label, text }): [string, string] => [label, text]),
    ];
    session.print(renderTable([{ title: `${chosen.law.id} (${chosen.name})` }, { title: '' }], rows));
    session.print(`${chosen.law.formula}; ${chosen.source}`);
    session.result({
      law: chosen.law.id,
      coefficients: chosen.name,
      source: chosen.source,
      point,
      predicts: chosen.law.predicts,
      predicted,
      interval,
      level: interval && level,
      ...Object.fromEntries(extra.map(({ key, value }) => [key, value])),
    });
  },
};

async function choose(id: string | undefined, options: PredictOptions): Promise<Source> {
  if (options.fit) {
    const { form, values, samples, level, source, runs, law } = await readFit(options.fit);
    if (id !== undefined && id !== law)
      throw userError({
        code: 'fit-file',
        op: 'laws predict',
        problem: 'the file holds a fit of another law',
        got: law,
        expected: id,
        file: options.fit,
      });
    return { law: form, values, samples, level, name: options.fit, source: `${runs} runs of ${source}` };
  }
  if (id === undefined)
    throw userError({
      code: 'no-law',
      op: 'laws predict',
      problem: 'neither a law nor a fit was named',
      fix: 'name one of `subbyte laws`, or give --fit',
    });
  const entry = findLaw(id);
  const { name, coefficients } = publishedSet(entry, options.coefficients);
  const law = entry.build(schemesOf(coefficients.values));
  return { law, values: coefficients.values, name, source: coefficients.source, samples: [], level: 0.9 };
}

function pointOf(o: PredictOptions): Point {
  const all: Partial<Point> & { n: number; d: number } = {
    n: o.n,
    d: o.d,
    group: o.group,
    block: o.block,
    exponentBits: o.eBits,
    mantissaBits: o.mBits,
    weightBits: o.wBits,
    activationBits: o.aBits,
    cacheBits: o.kvBits,
    forward: o.forward,
    backward: o.backward,
  };
  return Object.fromEntries(Object.entries(all).filter(([, v]) => v !== undefined)) as unknown as Point;
}

interface Consequence {
  key: string;
  label: string;
  value: number;
  text: string;
}

/** What else follows at the point, by law. */
function consequences({ law, values }: Source, point: Point, predicted: number): Consequence[] {
  const { n, d, group, exponentBits, mantissaBits, block } = point;
  if (law.id === 'qat' && group !== undefined) {
    const base = predict(chinchilla, qatBase.values, { n, d });
    const efficiency = qatEfficiency(qatBase.values, predicted, n);
    const critical = qatCriticalTokens(qatBase.values, values, n, group);
    return [
      { key: 'baseLoss', label: 'loss in BF16, nats', value: base, text: base.toFixed(4) },
      { key: 'loss', label: 'loss with the gap, nats', value: base + predicted, text: (base + predicted).toFixed(4) },
      {
        key: 'efficiency',
        label: 'acts like a model of',
        value: efficiency,
        text: `${(100 * efficiency).toFixed(1)} % of the parameters`,
      },
      {
        key: 'criticalTokens',
        label: 'more data hurts beyond',
        value: critical,
        text: `${critical.toExponential(1)} tokens`,
      },
    ];
  }
  if (law.id === 'floating-point' && block !== undefined && block > 1) {
    const critical = criticalTokens(values, n, exponentBits!, mantissaBits!, block);
    const exact = predict(law, values, { ...point, block: 1 });
    return [
      { key: 'gap', label: 'of that the format, nats', value: predicted - exact, text: (predicted - exact).toFixed(4) },
      {
        key: 'criticalTokens',
        label: 'more data hurts beyond',
        value: critical,
        text: `${critical.toExponential(2)} tokens`,
      },
    ];
  }
  return [];
}

export default definition;
