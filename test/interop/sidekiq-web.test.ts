import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Browser, BROWSER, CHROMIUM, startBrowser } from '../support/browser.ts';
import type { SidekiqWeb } from '../support/ruby.ts';
import { RubyStage, until } from './support/ruby-stage.ts';

describe("Sidekiq's own pages", () => {
  let stage: RubyStage;
  let web: SidekiqWeb;
  beforeAll(async () => {
    stage = await RubyStage.start();
  });
  beforeEach(async () => {
    web = await stage.web();
  });
  afterEach(() => stage.end());
  afterAll(() => stage[Symbol.asyncDispose]());

  async function page(path: string): Promise<string> {
    const response = await fetch(web.url + path);
    const text = await response.text();
    expect({ path, status: response.status, text: response.ok ? '' : text }).toEqual({ path, status: 200, text: '' });
    return text;
  }

  test('are all drawn over what Node wrote', async () => {
    const node = await stage.node({ queues: ['default', 'critical'], tag: 'shop', labels: ['eu-1'], poll: false });
    const slow = await stage.push({ class: 'SlowJob', args: [60], tags: ['urgent'] });
    const failing = await stage.push({ class: 'FailJob', args: ['<b>', { é: 1 }], backtrace: true, error: 'x' });
    const dead = await stage.push({ class: 'FailJob', args: [], retry: 0, backtrace: 5 });
    const later = await stage.client().enqueue('NodeJob', { args: ['later'], in: 3600 });
    await stage.client().enqueue('NodeJob', { args: [{ deep: [1.5, null] }], queue: 'elsewhere' });
    await stage.runsOf(slow);
    const retry = await stage.member('retry', failing);
    const died = await stage.member('dead', dead);
    const scheduled = await stage.member('schedule', later.jid);
    await until('the page shows the running job', async () => (await page('/busy')).includes(slow));

    const busy = await page('/busy');
    for (const word of ['shop', 'eu-1', 'critical, default', 'SlowJob', 'urgent', String(process.pid)])
      expect(busy.replaceAll('default, critical', 'critical, default')).toContain(word);
    expect(await page('/queues')).toContain('elsewhere');
    expect(await page('/queues/elsewhere')).toContain('NodeJob');
    expect(await page('/retries')).toContain('on purpose');
    const failed = await page(`/retries/${retry.score}-${failing}`);
    for (const word of ['Boom', 'on purpose', 'sidekiq-tasks.ts', '&lt;b&gt;']) expect(failed).toContain(word);
    expect(await page('/morgue')).toContain(dead);
    expect(await page(`/morgue/${died.score}-${dead}`)).toContain('Boom');
    expect(await page('/scheduled')).toContain(later.jid);
    expect(await page(`/scheduled/${scheduled.score}-${later.jid}`)).toContain('NodeJob');
    expect(await page('/')).toContain('Dashboard');
    const stats = JSON.parse(await page('/stats')) as { readonly sidekiq: Readonly<Record<string, number>> };
    expect(stats.sidekiq).toMatchObject({ busy: 1, processes: 1, retries: 1, dead: 1, scheduled: 1, enqueued: 1 });
    await node.worker.stop({ timeoutMs: 10 });
  });

  test.skipIf(CHROMIUM === undefined)(
    `in a browser: the process, its quiet and its stop button${BROWSER}`,
    async () => {
      await using browser = await startBrowser(CHROMIUM as string);
      const { worker } = await stage.node({ tag: 'shop' });
      const jid = await stage.push({ class: 'SlowJob', args: [2] });
      await stage.runsOf(jid);
      await until('the page shows the running job', async () => {
        await browser.open(`${web.url}/busy`);
        return (await browser.text()).includes(jid);
      });
      expect(await browser.text()).toMatch(new RegExp(`:${process.pid}\\s+shop`));
      const row = await cells(browser, 'shop');
      expect(row).toEqual(expect.arrayContaining([expect.stringContaining('shop') as string, '4', '1']));
      await browser.click('td [name=quiet], .process [name=quiet]');
      await until('it is quiet', () => worker.state === 'quiet');
      await until('the page shows that it is', async () => {
        await browser.open(`${web.url}/busy`);
        return (await browser.text()).includes('quiet');
      });
      await browser.click('td [name=stop], .process [name=stop]');
      await until('it has stopped', () => worker.state === 'stopped');
      await browser.open(`${web.url}/busy`);
      expect(await browser.text()).not.toContain('shop');
      // It had the time to end.
      expect((await stage.runsOf(jid)).map(({ at }) => at)).toEqual(['start', 'end']);
    },
  );

  test.skipIf(CHROMIUM === undefined)(`in a browser: a retry is run now, and a dead job again${BROWSER}`, async () => {
    await using browser = await startBrowser(CHROMIUM as string);
    await stage.node({ poll: false });
    const jid = await stage.push({ class: 'FlakyJob', args: [1] });
    await stage.member('retry', jid);
    await browser.open(`${web.url}/retries`);
    await browser.evaluate('document.querySelector("input[name=\'key[]\']").click()');
    await browser.click('button[name=retry], input[name=retry]');
    expect((await stage.runsOf(jid, 2)).map(({ run }) => run)).toEqual([1, 2]);
    const dead = await stage.push({ class: 'FlakyJob', args: [1], retry: 0 });
    const { score } = await stage.member('dead', dead);
    await browser.open(`${web.url}/morgue/${score}-${dead}`);
    await browser.click('button[name=retry], input[name=retry]');
    expect((await stage.runsOf(dead, 2)).map(({ run }) => run)).toEqual([1, 2]);
  });
});

/** The texts of the cells of the row that has this word. */
async function cells(browser: Browser, word: string): Promise<readonly string[]> {
  return browser.evaluate(
    `[...document.querySelectorAll('tr')].filter((row) => row.innerText.includes(${JSON.stringify(word)}))
       .flatMap((row) => [...row.querySelectorAll('td')].map((cell) => cell.innerText.trim()))`,
  );
}
