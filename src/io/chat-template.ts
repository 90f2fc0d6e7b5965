// A model's chat template: how a conversation is written for it, with its special tokens.
//
// The template (Jinja) is chat_template.jinja, else chat_template.json, else chat_template of tokenizer_config.json (of
// several the one called "default"); of GGUF tokenizer.chat_template. It sees what transformers gives it: messages,
// add_generation_prompt (false: conversations are complete), tools and documents (none), and the special tokens.
// A template that asks for today's date gets 26 July 2024, the date that Llama's templates fall back to: the same
// conversation is the same text on every day.

import { modelError } from '../errors.ts';
import type { Checkpoint } from './checkpoint.ts';
import type { ChatTemplate } from './datasets-fields.ts';

const op = 'load chat template';
const mostCharacters = 2 ** 20;
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/**
 * The chat template that comes with a checkpoint, or undefined. Throws a model error for one that is no Jinja.
 *
 * @example (await loadChatTemplate(checkpoint))?.render([{ role: 'user', content: 'Hello' }])
 */
export async function loadChatTemplate(checkpoint: Checkpoint): Promise<ChatTemplate | undefined> {
  const file = checkpoint.location;
  const config = parseObject(await checkpoint.sidecar('tokenizer_config.json'), 'tokenizer_config.json', file);
  const source = (await templateSource(checkpoint, config)) ?? metadataTemplate(checkpoint);
  if (source === undefined) return undefined;
  return await compileTemplate(source, { ...metadataTokens(checkpoint), ...specialTokens(config) }, file);
}

/**
 * A template from its Jinja source and the special tokens by name (`bos_token`). Throws a model error when it is no Jinja
 * or longer than 1 Mi characters.
 */
export async function compileTemplate(
  source: string,
  tokens: Readonly<Record<string, string>>,
  file?: string,
): Promise<ChatTemplate> {
  if (source.length > mostCharacters)
    throw modelError({ code: 'chat-template-size', op, problem: 'the chat template is far too long', file });
  // Loaded late: most runs see no conversation.
  const { Template } = await import('@huggingface/jinja');
  let template: InstanceType<typeof Template>;
  try {
    // The library's own strftime_now cannot be replaced, so the template calls another name.
    template = new Template(source.replaceAll('strftime_now', 'fixed_date'));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.slice(0, 160) : String(cause);
    const problem = `the chat template is no Jinja template that can be read (${reason})`;
    throw modelError({ code: 'chat-template-syntax', op, problem, file }, { cause });
  }
  return {
    render: (messages) =>
      template.render({
        ...tokens,
        messages,
        add_generation_prompt: false,
        tools: null,
        documents: null,
        fixed_date: formatDate,
      }),
  };
}

async function templateSource(
  checkpoint: Checkpoint,
  config: Readonly<Record<string, unknown>>,
): Promise<string | undefined> {
  const jinja = await checkpoint.sidecar('chat_template.jinja');
  if (jinja) return decode(jinja);
  const json = parseObject(await checkpoint.sidecar('chat_template.json'), 'chat_template.json', checkpoint.location);
  for (const found of [json.chat_template, config.chat_template]) {
    if (typeof found === 'string') return found;
    if (!Array.isArray(found)) continue;
    const named = found as { name?: unknown; template?: unknown }[];
    const one = named.find((entry) => entry?.name === 'default') ?? named[0];
    if (typeof one?.template === 'string') return one.template;
  }
  return undefined;
}

const metadataTemplate = ({ metadata }: Checkpoint): string | undefined => {
  const found = metadata.get('tokenizer.chat_template');
  return typeof found === 'string' ? found : undefined;
};

/** bos_token and its like of tokenizer_config.json: texts, or objects with a content. */
function specialTokens(config: Readonly<Record<string, unknown>>): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const [name, value] of Object.entries(config)) {
    if (!/^[a-z]+_token$/.test(name)) continue;
    const text = typeof value === 'object' && value !== null ? (value as { content?: unknown }).content : value;
    if (typeof text === 'string') tokens[name] = text;
  }
  return tokens;
}

function metadataTokens({ metadata }: Checkpoint): Record<string, string> {
  const vocabulary = metadata.get('tokenizer.ggml.tokens');
  const tokens: Record<string, string> = {};
  if (!Array.isArray(vocabulary)) return tokens;
  for (const name of ['bos', 'eos']) {
    const text = vocabulary[Number(metadata.get(`tokenizer.ggml.${name}_token_id`) ?? -1)];
    if (typeof text === 'string') tokens[`${name}_token`] = text;
  }
  return tokens;
}

function parseObject(bytes: Uint8Array | undefined, name: string, file: string): Readonly<Record<string, unknown>> {
  if (!bytes) return {};
  try {
    const value: unknown = JSON.parse(decode(bytes));
    if (typeof value === 'object' && value !== null) return value as Readonly<Record<string, unknown>>;
    throw new SyntaxError('no object');
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.slice(0, 120) : String(cause);
    throw modelError(
      { code: 'chat-template-json', op, problem: `${name} is no valid JSON (${reason})`, file },
      { cause },
    );
  }
}

/** Friday, 26 July 2024, midnight. */
const date: Readonly<Record<string, string>> = {
  '%Y': '2024',
  '%y': '24',
  '%m': '07',
  '%d': '26',
  '%b': 'Jul',
  '%B': 'July',
  '%a': 'Fri',
  '%A': 'Friday',
  '%j': '208',
  '%H': '00',
  '%I': '12',
  '%p': 'AM',
  '%M': '00',
  '%S': '00',
  '%%': '%',
};

const formatDate = (format: string): string => format.replace(/%./g, (code) => date[code] ?? code);
