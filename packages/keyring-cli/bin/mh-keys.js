#!/usr/bin/env node
import { main } from '../dist/main.js';

// Set, not called: what is still on its way into a pipe gets there.
process.exitCode = await main(process.argv.slice(2));
