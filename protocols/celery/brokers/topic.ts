/** kombu's regular expression of a topic key: `*` one word, `#` any. Source: kombu/transport/virtual/exchange.py TopicExchange. */
export function topicPattern(routingKey: string): string {
  const words = routingKey
    .split('.')
    .map((word) => (word === '*' ? '.*?[^\\.]' : word === '#' ? '.*?' : escapeForKombu(word)));
  return `^${words.join('\\.')}$`;
}

/** Whether a key, in words, is one that a pattern, in words, means. */
export function topicMatches(pattern: readonly string[], words: readonly string[]): boolean {
  const [head, ...rest] = pattern;
  if (head === undefined) return words.length === 0;
  if (head === '#') return words.some((_, at) => topicMatches(rest, words.slice(at))) || topicMatches(rest, []);
  return words.length > 0 && (head === '*' || head === words[0]) && topicMatches(rest, words.slice(1));
}

/** Two writers of one binding must write the same text. Source: kombu/utils/text.py escape_regex. */
function escapeForKombu(word: string): string {
  return word.replace(/[^\p{L}\p{N}#*]/gu, (character) => (character === '\0' ? '\\000' : `\\${character}`));
}
