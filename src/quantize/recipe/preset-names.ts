// Names of the presets, apart from what they hold: messages about steps need them too.

export const presetNames = [
  'rtn',
  'gptq',
  'gptaq',
  'awq',
  'awq+gptq',
  'smoothquant',
  'quarot',
  'mr-gptq',
  'hqq',
  'imatrix',
] as const;

export type PresetName = (typeof presetNames)[number];
