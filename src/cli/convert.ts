// subbyte convert: another container, the same numbers. Every tensor is compared after writing.

import path from 'node:path';
import { Option } from 'commander';
import { SubbyteError, userError } from '../errors.ts';
import { openCheckpoint } from '../io/open.ts';
import { openWeights } from '../models/weights.ts';
import { checkOutput } from '../quantize/check-output.ts';
import { ggufOutput } from '../quantize/gguf-output.ts';
import type { OutputJob, OutputKind } from '../quantize/output.ts';
import { keepEverything } from '../quantize/plan.ts';
import { safetensorsOutput } from '../quantize/safetensors-output.ts';
import { sourceDigest } from '../quantize/source-digest.ts';
import { tensorStreams } from '../quantize/streams.ts';
import { referenceQuantizer } from '../quantize/tensor-quantizer.ts';
import { toolVersion } from '../version.ts';
import type { CommandDefinition } from './command.ts';
import { openModel } from './open-model.ts';
import { checkTarget, makeOutputFolder, rejectOutput } from './output-target.ts';
import { humanBytes } from './progress.ts';
import { modelName } from './quantize.ts';

const definition: CommandDefinition = {
  name: 'convert',
  summary: 'change the container, bit-exact',
  arguments: [
    ['<model>', 'folder, .safetensors, .gguf or hub id'],
    ['<output>', 'a .gguf file, or a folder for safetensors'],
  ],
  options: [new Option('--no-verify', 'do not compare the tensors of the written file')],
  examples: ['subbyte convert models/qwen3-6m out/qwen3-6m.gguf', 'subbyte convert model.gguf out/model-folder'],
  async run(session, [reference, output], options) {
    if (/\.safetensors$/i.test(output))
      throw userError({
        code: 'convert-output',
        op: 'convert',
        problem: 'safetensors models are folders, because config and tokenizer stand beside the weights',
        got: output,
        fix: `write ${JSON.stringify(output.replace(/\.safetensors$/i, ''))}`,
      });
    const model = await openModel(session, reference);
    const { weights } = model;
    const kind: OutputKind = /\.gguf$/i.test(output) ? ggufOutput : safetensorsOutput;
    const plan = keepEverything(weights, await sourceDigest(model.checkpoint, session.signal));
    const quantizer = referenceQuantizer();
    const job: OutputJob = {
      checkpoint: model.checkpoint,
      weights,
      plan,
      quantizer,
      path: output,
      name: modelName(reference),
      seed: 0,
      streams: tensorStreams(weights),
      provenance: { version: toolVersion, source: reference, fingerprint: plan.fingerprint },
      signal: session.signal,
      progress: (total) => session.progress('convert', total, 'B'),
    };
    await kind.check(job).catch((error) => {
      if (kind !== safetensorsOutput || !(error instanceof SubbyteError) || error.kind !== 'user') throw error;
      const fix = `keep it in a .gguf file, or write its values rounded to bf16: subbyte quantize ${reference} --format bf16 --to safetensors`;
      throw userError({ ...error.details, fix }, { cause: error });
    });
    await checkTarget(output, model.checkpoint, 'convert');
    await makeOutputFolder(kind === ggufOutput ? path.dirname(path.resolve(output)) : output, 'convert');
    const report = await kind.write(job);
    let compared = 0;
    let inexact = 0;
    if (options.verify !== false) {
      const checkpoint = await openCheckpoint(output);
      try {
        const written = await openWeights(checkpoint);
        const result = await checkOutput(weights, written, {
          formatOf: () => undefined,
          relativeError: kind.relativeError,
          quantizer,
          seed: 0,
          streams: job.streams,
          maxWeights: Number.POSITIVE_INFINITY,
          signal: session.signal,
        });
        compared = result.tensors;
        inexact = result.inexact;
      } catch (error) {
        await rejectOutput(output, error);
        throw error;
      } finally {
        await checkpoint.close();
      }
    }
    for (const note of report.notes) session.warn(`  note         ${note}`);
    session.print(
      `${session.color.green('✔')} ${output}  ${humanBytes(report.bytes)}${compared ? `, ${compared - inexact} tensors bit for bit equal${inexact ? `, ${inexact} but for the last bit of f32` : ''}` : ''}`,
    );
    session.result({
      output,
      bytes: report.bytes,
      tensorsCompared: compared,
      tensorsInexact: inexact,
      notes: report.notes,
    });
  },
};

export default definition;
