// A compiled step in memory: the table of commands that the engine walks, and their argument blocks.

import type { Command } from './encoder.ts';

const commandBytes = 8;
const blockAlignment = 16;

const blockBytes = (command: Command) => Math.ceil((4 * command.args.length) / blockAlignment) * blockAlignment;
const tableBytes = (count: number) => Math.ceil((commandBytes * count) / blockAlignment) * blockAlignment;

/** Bytes that writeProgram fills. */
export function programBytes(commands: readonly Command[]): number {
  return commands.reduce((sum, command) => sum + blockBytes(command), tableBytes(commands.length));
}

/** Writes the table at `address`, followed by the argument blocks. */
export function writeProgram(memory: ArrayBufferLike, address: number, commands: readonly Command[]): void {
  const view = new DataView(memory);
  let block = address + tableBytes(commands.length);
  commands.forEach((command, i) => {
    view.setUint32(address + commandBytes * i, command.kernel, true);
    view.setUint32(address + commandBytes * i + 4, block, true);
    command.args.forEach((word, j) => {
      if (typeof word === 'number') view.setUint32(block + 4 * j, word, true);
      else view.setFloat32(block + 4 * j, word.f32, true);
    });
    block += blockBytes(command);
  });
}
