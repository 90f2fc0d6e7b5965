// subbyte verify: do two ways of running the model give the same answer? Exit code 2 when they do not.
//
// Without --against: the same weights on two backends. With it: a file against the model it was made from, whose
// divergence is quality, not parity, and is reported; `--fail-if` turns it into a condition.

import { Option } from 'commander';
import type { Backend } from '../backends/backend.ts';
import { modelError, userError } from '../errors.ts';
import { measureDivergence } from '../evaluate/divergence.ts';
import { enforceGates, parseGate, requireFigures } from '../evaluate/gate.ts';
import { parityThresholds, roundingThresholds, type VerifyResult, verifyParity } from '../evaluate/verify.ts';
import type { KvChoice } from '../models/kv-scheme.ts';
import { type CommandDefinition, parseRepeated } from './command.ts';
import { checkDevice, openBackend, parseDevice } from './device.ts';
import { kvLine, kvOption, reportKv } from './kv-option.ts';
import { loadOn, loadTokens, openModel, type TextOptions, textOptions } from './open-model.ts';
import type { Session } from './session.ts';

interface VerifyOptions extends TextOptions {
  against?: string;
  on: string;
  device?: string;
  failIf?: string[];
  kv?: KvChoice;
}

const definition: CommandDefinition = {
  name: 'verify',
  summary: 'check that backends agree on a model, and how far it is from its original',
  arguments: [['<model>', 'folder, .safetensors, .gguf or hub id']],
  options: [
    ...textOptions(64).map((o) => (o.long === '--window' ? o.default(64) : o)),
    new Option('--against <model>', 'the original: also report KL, top-1 agreement and perplexity change'),
    kvOption(),
    new Option('--on <a,b,…>', 'backends to compare with the first: reference, wasm, webgpu, webgpu:N').default(
      'reference,wasm',
    ),
    new Option('--device <name>', 'the same as --on reference,<name>').argParser(checkDevice).conflicts('on'),
    new Option('--fail-if <condition>', "exit with 4 when it holds: 'kl>0.05'").argParser(parseRepeated),
  ],
  examples: [
    'subbyte verify models/qwen3-6m',
    'subbyte verify models/qwen3-6m --on reference,wasm,webgpu',
    "subbyte verify out/model.gguf --against models/qwen3-6m --fail-if 'top1<80%'",
  ],
  async run(session, [reference], raw) {
    const options = raw as unknown as VerifyOptions;
    const gates = (options.failIf ?? []).map(parseGate);
    requireFigures(gates, options.against ? ['ppl', 'kl', 'top1'] : [], true, 'add --against with the original model');
    const names = parseBackends(options.device === undefined ? options.on : `reference,${options.device}`);
    const model = await openModel(session, reference);
    const original = options.against ? await openModel(session, options.against) : undefined;
    const cache = reportKv(model.weights.config, options.kv);
    const { tokens, file } = await loadTokens(session, model, options);
    const backends: Backend[] = [];
    try {
      const { kv } = options;
      const sides = [];
      for (const name of names) {
        const backend = await openBackend(session, name);
        backends.push(backend);
        sides.push({ model: await loadOn(session, model.weights, backend), kv });
      }
      const thresholds = cache.scheme === 'none' ? parityThresholds : roundingThresholds;
      const window = tokens.subarray(0, options.window);
      const comparisons = [];
      for (const [i, side] of sides.entries()) {
        if (i === 0) continue;
        const parity = await verifyParity(sides[0], side, window, thresholds);
        comparisons.push({ backends: [names[0], names[i]], ...parity });
        printParity(session, `${names[0]} and ${names[i]} on ${parity.tokens} tokens of ${file}`, parity);
      }
      const failed = comparisons.find(({ pass }) => !pass);
      if (cache.scheme !== 'none') session.print(`kv cache    ${kvLine(cache)}`);
      const last = sides[sides.length - 1];
      const divergence = original
        ? (
            await measureDivergence(
              await loadOn(session, original.weights, backends[backends.length - 1]),
              [last],
              tokens,
              {
                window: options.window,
                signal: session.signal,
              },
            )
          )[0]
        : undefined;
      if (divergence) {
        session.print(
          `original    KL ${divergence.kl.toExponential(2)}, top-1 ${(100 * divergence.top1).toFixed(2)} %, perplexity ${divergence.originalPerplexity.toFixed(3)} → ${divergence.perplexity.toFixed(3)}`,
        );
      }
      session.result({
        ...(failed ?? comparisons[0]),
        comparisons,
        against: options.against,
        divergence,
        text: file,
        kv: cache,
      });
      if (failed)
        throw modelError({
          code: 'parity',
          op: 'verify',
          problem: `${failed.backends.join(' and ')} disagree: ${failed.failures.join('; ')}`,
          file: reference,
          fix: 'report it with the output of --json; the file or a kernel is wrong',
        });
      if (divergence)
        enforceGates(
          gates,
          { ppl: divergence.perplexity, kl: divergence.kl, top1: divergence.top1 },
          { ppl: divergence.originalPerplexity },
        );
    } finally {
      for (const backend of backends) backend.dispose();
    }
  },
};

function printParity(session: Session, title: string, parity: VerifyResult): void {
  session.print(title);
  session.print(`cosine      ${parity.cosine.toFixed(8)} (smallest of all positions)`);
  session.print(`max error   ${parity.maxError.toExponential(2)} (largest of all logits)`);
  session.print(`KL          ${parity.kl.toExponential(2)} nats a token`);
  session.print(`top-1       ${(100 * parity.top1).toFixed(2)} %`);
}

/** The first backend is what the others are compared with. */
function parseBackends(text: string): string[] {
  const names = text.split(',').map((s) => s.trim());
  const known = names.every((name) => parseDevice(name).name !== 'auto');
  if (names.length >= 2 && known && new Set(names).size === names.length) return names;
  throw userError({
    code: 'unknown-backend',
    op: 'verify',
    problem: '--on takes two or more different backends',
    got: JSON.stringify(text),
    expected: 'such as reference,wasm or reference,wasm,webgpu',
  });
}

export default definition;
