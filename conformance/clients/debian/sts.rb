require 'json'
require 'aws-sdk-core'

out = $stdout.dup
$stdout.reopen($stderr)
out.sync = true
# This release does not know AWS_ENDPOINT_URL_STS.
sts = nil
$stdin.each_line do
  sts ||= Aws::STS::Client.new(endpoint: ENV.fetch('CONFORMANCE_STS'))
  out.puts JSON.generate(ok: true, arn: sts.get_caller_identity.arn)
rescue StandardError => e
  out.puts JSON.generate(ok: false, error: "#{e.class}: #{e.message}".split.join(' ')[0, 4000])
end
