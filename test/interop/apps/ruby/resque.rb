# As much of Resque as Active Job and the tests need, on the redis gem: Debian has no Resque. What it sends is what the captures of
# Resque 3.0 and resque-scheduler 5.0 show (fixtures/resque/3.0), command by command.
require 'json'
require 'redis'
require 'time'

module Resque
  PREFIX = 'resque:'.freeze

  def self.redis
    @redis ||= Redis.new(url: ENV['REDIS_URL'])
  end

  # enqueue-to.json
  def self.enqueue_to(queue, klass, *args)
    redis.sadd("#{PREFIX}queues", queue)
    redis.rpush("#{PREFIX}queue:#{queue}", JSON.generate('class' => klass.to_s, 'args' => args))
    true
  end

  # sched-enqueue-at.json
  def self.enqueue_at_with_queue(queue, timestamp, klass, *args)
    item = JSON.generate('class' => klass.to_s, 'args' => args, 'queue' => queue)
    second = timestamp.to_i
    redis.rpush("#{PREFIX}delayed:#{second}", item)
    redis.sadd("#{PREFIX}timestamps:#{item}", "delayed:#{second}")
    redis.zadd("#{PREFIX}delayed_queue_schedule", second, second)
  end

  # job-ok.json and job-fail.json, without the fork.
  def self.work_one(queue, id = "ruby-host:4711:#{queue}")
    text = redis.lpop("#{PREFIX}queue:#{queue}")
    return nil if text.nil?
    payload = JSON.parse(text)
    working = { 'queue' => queue, 'run_at' => Time.now.utc.iso8601, 'payload' => payload }
    redis.set("#{PREFIX}worker:#{id}", JSON.generate(working))
    begin
      Object.const_get(payload['class']).perform(*payload['args'])
    rescue StandardError => e
      failure = {
        'failed_at' => Time.now.strftime('%Y/%m/%d %H:%M:%S %Z'), 'payload' => payload, 'exception' => e.class.to_s,
        'error' => e.message, 'backtrace' => Array(e.backtrace), 'worker' => id, 'queue' => queue
      }
      redis.rpush("#{PREFIX}failed", JSON.generate(failure))
      redis.incrby("#{PREFIX}stat:failed", 1)
    end
    redis.del("#{PREFIX}worker:#{id}")
    redis.incrby("#{PREFIX}stat:processed", 1)
    payload
  end
end

# What Active Job's adapter asks for is there.
$LOADED_FEATURES << 'resque.rb' << 'resque-scheduler.rb'
require 'active_job'
require 'active_job/queue_adapters/resque_adapter'

# Active Job enqueues there, while the block runs.
def on_resque
  before = ActiveJob::Base.queue_adapter
  ActiveJob::Base.queue_adapter = :resque
  yield
ensure
  ActiveJob::Base.queue_adapter = before
end

# resque-retry's plugin, as the captures show it: retry-first-failure.json, retry-exhausted.json.
require 'digest/sha1'
class RetryingJob
  LIMIT = 3
  def self.retry_key(*args)
    digest = args.empty? ? nil : Digest::SHA1.hexdigest(args.join('-'))
    [Resque::PREFIX.chomp(':'), 'resque-retry', name, digest].compact.join(':').gsub(/\s/, '')
  end

  def self.perform(*args)
    key = retry_key(*args)
    Resque.redis.setnx(key, -1)
    attempt = Resque.redis.incr(key)
    Resque.redis.rpush('ran', JSON.generate(side: 'ruby', attempt: attempt))
    if attempt < LIMIT
      Resque.redis.setnx(key, -1)
      Resque.enqueue_to('default', self, *args)
    else
      Resque.redis.del(key)
    end
    raise 'not yet'
  end
end
