// Loaded before a program: the plotting library is not there, as where only what trains is installed.

import { registerHooks } from 'node:module';

registerHooks({
  resolve(specifier, context, next) {
    if (specifier !== 'vega') return next(specifier, context);
    const message = `Cannot find package 'vega' imported from ${context.parentURL}`;
    throw Object.assign(new Error(message), { code: 'ERR_MODULE_NOT_FOUND' });
  },
});
