// packChannels: keys of groups of tokens rounded per channel, as soon as a group's last token is in the ring.
//
// The cache is a packed matrix of B·G·D rows, one a channel, and S columns, one a token; a group fills whole bytes of a
// row. Thread map: the channels of all completed groups, in shares. A task gathers the group's values of one channel
// from the ring, then takes the steps of quantize-spec.ts, whose argument block this kernel's begins with.
//
// Words: ring, unused, S, codes, bytes of a row, scales, zero points, three unused, scratch bytes of a thread, format
// words (quantize-spec.ts), then from 37 on: start (address), B, W, G·D, T, sinks, group, bits, scratch.
// Scratch of a thread: group floats, group bytes, one tile.

import { cacheRangeError, nonFiniteError } from '../../../data-error-codes';
import { address, at, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { reportError } from './error';
import { ringRow } from './layout';
import { encodeTileRow, fitTile, packRow } from './quantize-spec';

export function packChannels(args: usize, thread: i32, threads: i32): void {
  const ring = address(args, 0);
  const columns = word(args, 2);
  const start = load<i32>(address(args, 37));
  const batch = word(args, 38);
  const width = word(args, 39);
  const channels = word(args, 40);
  const tokens = word(args, 41);
  const sinks = word(args, 42);
  const group = word(args, 43);
  const groupBytes = <usize>((group * word(args, 44)) >> 3);
  const scratch = address(args, 45) + <usize>thread * address(args, 10);
  const bytes = scratch + ((<usize>group) << 2);
  const tile = bytes + ((<usize>group + 15) & ~15);
  if (start < 0 || start > sinks + columns - tokens) {
    if (thread == 0) reportError(cacheRangeError, start);
    return;
  }
  // The first group that a new token belongs to, and the first that is not complete after the last one.
  const first = max(0, start - sinks) / group;
  const groups = max(0, start + tokens - sinks) / group - first;
  if (groups <= 0) return;
  const tiles = columns / group;
  const tasks = batch * channels * groups;
  const end = shareEnd(tasks, 1, thread, threads);
  for (let task = shareStart(tasks, 1, thread, threads); task < end; task++) {
    const row = task / groups;
    const j = first + (task % groups);
    const from = ring + ((<usize>((row / channels) * width * channels + (row % channels))) << 2);
    for (let i = 0; i < group; i++) {
      const slot = ringRow(sinks + j * group + i, width, sinks);
      store<f32>(at(scratch, i), load<f32>(at(from, slot * channels)));
    }
    if (!fitTile(args, scratch, 0, 1, group, row * tiles + j, 1, tile)) {
      reportError(nonFiniteError, row);
      return;
    }
    encodeTileRow(args, scratch, 0, 0, group, tile, bytes, 0);
    packRow(bytes, group, word(args, 44), address(args, 3) + <usize>row * address(args, 4) + <usize>j * groupBytes);
  }
}
