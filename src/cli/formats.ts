// subbyte formats: every number format with its bits, range and error on a Gaussian.

import { Option } from 'commander';
import { takingTurns } from '../evaluate/yield.ts';
import { formatInfo, listFormats, parseFormat } from '../formats/registry.ts';
import { gaussianMatrix } from '../quantize/gaussian.ts';
import { quantizationSnr } from '../quantize/statistics.ts';
import type { CommandDefinition } from './command.ts';
import compare from './formats-compare.ts';
import { renderTable } from './table.ts';

const rows = 16;
const cols = 4096;

const definition: CommandDefinition = {
  name: 'formats',
  summary: 'list number formats with bits, range and error',
  arguments: [['[names...]', 'formats to show (default: all); options such as mxfp4-ceil or int4-g64-asym work']],
  options: [new Option('--no-qsnr', 'leave out the error column, which takes a second')],
  commands: [compare],
  examples: [
    'subbyte formats',
    'subbyte formats mxfp4 mxfp4-ceil nvfp4 int4-g32-asym --json',
    'subbyte formats compare models/qwen3-6m',
  ],
  async run(session, names, options) {
    const known = listFormats();
    const list =
      names.length === 0
        ? known
        : names.map((name) => {
            const info = formatInfo(name);
            return known.find((f) => f.name === info.name) ?? info;
          });
    const sample = gaussianMatrix(rows, cols, session.options.seed);
    const progress = session.progress('formats', list.length, 'formats');
    const turn = takingTurns(session.signal);
    const entries = [];
    for (const info of list) {
      await turn();
      const qsnr = options.qsnr === false ? undefined : quantizationSnr(sample, rows, cols, parseFormat(info.name));
      progress.advance(1, info.name);
      entries.push({ ...info, qsnrGaussian: qsnr });
    }
    progress.done();
    const table = renderTable(
      [
        { title: 'format' },
        { title: 'bits/value', align: 'right' },
        { title: 'element range' },
        ...(options.qsnr === false ? [] : [{ title: 'QSNR dB', align: 'right' as const }]),
        { title: 'what it is' },
      ],
      entries.map((e) => [
        e.name,
        e.bits.toFixed(3),
        e.range,
        ...(options.qsnr === false
          ? []
          : [e.qsnrGaussian === Infinity ? 'exact' : (e.qsnrGaussian as number).toFixed(2)]),
        e.description,
      ]),
    );
    session.print(table);
    session.print(
      'bits/value: of a 4096 × 4096 matrix, scales included. QSNR: 10·log10(Σx²/Σ(x−x̂)²) on 65,536 Gaussian values.',
    );
    session.result({
      formats: entries,
      protocol: { qsnr: `${rows}×${cols} standard normal, seed ${session.options.seed}` },
    });
  },
};

export default definition;
