# Runs Ruby for a test: a line of JSON {id, source, values} comes, a line {id, value} or {id, error} goes.
require 'json'
replies = $stdout.dup
replies.sync = true
# What the application prints is no reply.
$stdout.reopen($stderr)
require_relative 'app'

def run(source, values)
  eval(source, binding, 'test')
end

versions = { ruby: RUBY_VERSION, sidekiq: Sidekiq::VERSION, activejob: ActiveJob.version.to_s }
replies.puts(JSON.generate(id: 0, value: versions))
$stdin.each_line do |line|
  request = JSON.parse(line)
  reply =
    begin
      { id: request['id'], value: run(request['source'], request['values']) }
    rescue Exception => e
      { id: request['id'], error: { type: e.class.name, message: e.message, backtrace: (e.backtrace || []).first(20) } }
    end
  replies.puts(JSON.generate(reply))
end
