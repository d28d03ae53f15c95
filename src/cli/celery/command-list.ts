import { type CommandSpec, COMMANDS } from '../../../protocols/celery/control/commands.ts';

/** The remote control commands that are meant for people. */
export function commandNames(type: CommandSpec['type']): readonly string[] {
  return [...COMMANDS].filter(([, spec]) => spec.type === type && spec.hidden !== true).map(([name]) => name);
}

/** The commands with their arguments, for help. */
export function commandHelp(type: CommandSpec['type']): string {
  const rows = commandNames(type).map((name) => {
    const { usage, help } = COMMANDS.get(name) as CommandSpec;
    return { call: usage === '' ? name : `${name} ${usage}`, help };
  });
  return [
    '',
    'Commands that workers answer:',
    ...rows.flatMap(({ call, help }) => [`  ${call}`, `      ${help}`]),
  ].join('\n');
}
