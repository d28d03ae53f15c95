import { describe, expect, test } from 'vitest';
import { maskUrl } from '../../../src/cli/url.ts';

describe('a URL without its secrets', () => {
  test.each([
    ['redis://localhost:6379/0', 'redis://localhost:6379/0'],
    ['redis://:hunter2@localhost/0', 'redis://:**@localhost/0'],
    ['rediss://me:hunter2@host:6380', 'rediss://me:**@host:6380'],
    ['redis://hunter2@host', 'redis://**@host'],
    ['redis://:p@ss/word@host/0', 'redis://:**@host/0'],
    ['sentinel://:hunter2@a:26379;sentinel://:hunter2@b:26379/0', 'sentinel://:**@a:26379;sentinel://:**@b:26379/0'],
    ['redis://host/0?password=hunter2&db=1', 'redis://host/0?password=**&db=1'],
    ['rediss://host/0?ssl_keyfile_password=hunter2', 'rediss://host/0?ssl_keyfile_password=**'],
    ['file:///var/a:b@c/results', 'file:///var/a:b@c/results'],
    ['not a url', 'not a url'],
    ['', ''],
  ])('%s is shown as %s', (url, shown) => {
    expect(maskUrl(url)).toBe(shown);
  });
});
