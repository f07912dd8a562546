import { InvalidArgumentError, type Command } from 'commander';

/**
 * A command that does something: has `--json`, and examples under its help. Names of commands are words that people say
 * about the thing: `rotations pause`, not `pauseRotation`.
 */
export function leaf(
  parent: Command,
  nameAndArguments: string,
  description: string,
  examples: readonly string[],
): Command {
  return asLeaf(parent.command(nameAndArguments), description, examples);
}

export function asLeaf(command: Command, description: string, examples: readonly string[]): Command {
  return command
    .description(description)
    .option('--json', 'one JSON document on standard output, and JSON lines on standard error')
    .addHelpText('after', `\nExamples:\n${examples.map((example) => `  ${example}`).join('\n')}`);
}

/** A command that only has others under it. */
export function group(parent: Command, name: string, description: string): Command {
  return parent.command(name).description(description);
}

/** For an option: a whole number in a range. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const n = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (n >= least && n <= most) return n;
    throw new InvalidArgumentError(`It takes a whole number from ${String(least)} to ${String(most)}.`);
  };
}
