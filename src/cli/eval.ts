// subbyte eval: perplexity of a text, and divergence from a reference model.

import { Option } from 'commander';
import { measureDivergence } from '../evaluate/divergence.ts';
import { enforceGates, type Figures, parseGate, requireFigures } from '../evaluate/gate.ts';
import { measurePerplexity } from '../evaluate/perplexity.ts';
import type { KvChoice } from '../models/kv-scheme.ts';
import { type CommandDefinition, parseRepeated } from './command.ts';
import { deviceOption, openBackend } from './device.ts';
import { kvLine, kvOption, reportKv } from './kv-option.ts';
import { loadOn, loadTokens, openModel, type TextOptions, textOptions } from './open-model.ts';

interface EvalOptions extends TextOptions {
  reference?: string;
  device: string;
  failIf?: string[];
  kv?: KvChoice;
}

const definition: CommandDefinition = {
  name: 'eval',
  summary: 'measure perplexity, and with --reference the divergence from another model',
  arguments: [['<model>', 'folder, .safetensors, .gguf or hub id']],
  options: [
    ...textOptions(400_000),
    new Option('--reference <model>', 'also measure KL divergence to this model and top-1 agreement with it'),
    new Option('--fail-if <condition>', "exit with 4 when it holds: 'ppl>+5%', 'kl>0.05', 'top1<90%'").argParser(
      parseRepeated,
    ),
    kvOption(),
    deviceOption(),
  ],
  examples: [
    'subbyte eval models/qwen3-6m --tokens 20000',
    'subbyte eval out/model.gguf --reference models/qwen3-6m --text wiki.txt --json',
    "subbyte eval out/model.gguf --reference models/qwen3-6m --fail-if 'ppl>+5%'",
    'subbyte eval models/qwen3-6m --kv k=int2-channel-g32,v=int2-g32,residual=128',
  ],
  async run(session, [reference], raw) {
    const options = raw as unknown as EvalOptions;
    const gates = (options.failIf ?? []).map(parseGate);
    const figures: (keyof Figures)[] = options.reference ? ['ppl', 'kl', 'top1'] : ['ppl'];
    requireFigures(gates, figures, options.reference !== undefined, 'add --reference with the original model');
    const model = await openModel(session, reference);
    const cache = reportKv(model.weights.config, options.kv);
    const { tokens, file } = await loadTokens(session, model, options);
    const base = options.reference ? await openModel(session, options.reference) : undefined;
    const backend = await openBackend(session, options.device);
    try {
      const loaded = await loadOn(session, model.weights, backend);
      const loadedBase = base && (await loadOn(session, base.weights, backend));
      const progress = session.progress('eval', tokens.length, 'tok');
      let before = 0;
      const evaluation = {
        window: options.window,
        signal: session.signal,
        onProgress: ({ done }: { done: number }) => {
          progress.advance(done - before);
          before = done;
        },
      };
      const protocol = {
        model: reference,
        text: file,
        window: options.window,
        precision: `weights as stored, activations f32, ${backend.description}`,
        kv: cache,
      };
      const { kv } = options;
      if (!loadedBase) {
        const r = await measurePerplexity(loaded, tokens, { ...evaluation, kv });
        progress.done();
        session.print(`perplexity  ${r.perplexity.toFixed(4)}`);
        session.print(`nll         ${r.nll.toFixed(6)} nats a token, ${r.tokens} predicted tokens`);
        if (cache.scheme !== 'none') session.print(`kv cache    ${kvLine(cache)}`);
        session.print(`speed       ${Math.round(r.tokensPerSecond)} tokens/s`);
        session.result({ ...r, protocol });
        enforceGates(gates, { ppl: r.perplexity }, {});
        return;
      }
      const [r] = await measureDivergence(loadedBase, [{ model: loaded, kv }], tokens, evaluation);
      progress.done();
      const change = 100 * (r.perplexity / r.originalPerplexity - 1);
      session.print(
        `perplexity  ${r.perplexity.toFixed(4)} (reference ${r.originalPerplexity.toFixed(4)}, ${change < 0 ? '' : '+'}${change.toFixed(2)} %)`,
      );
      session.print(`KL          ${r.kl.toExponential(3)} ± ${r.klError.toExponential(1)} nats a token`);
      session.print(`top-1       ${(100 * r.top1).toFixed(2)} % of ${r.tokens} predicted tokens agree`);
      if (cache.scheme !== 'none') session.print(`kv cache    ${kvLine(cache)}`);
      session.result({ ...r, protocol: { ...protocol, reference: options.reference } });
      enforceGates(gates, { ppl: r.perplexity, kl: r.kl, top1: r.top1 }, { ppl: r.originalPerplexity });
    } finally {
      backend.dispose();
    }
  },
};

export default definition;
