<?php
// AsyncAws and its default chain.
ini_set('display_errors', 'stderr');
require 'AsyncAws/Core/autoload.php';

// This release does not know AWS_ENDPOINT_URL_STS.
$sts = new AsyncAws\Core\Sts\StsClient(['endpoint' => getenv('CONFORMANCE_STS'), 'region' => getenv('AWS_REGION')]);
while (fgets(STDIN) !== false) {
    try {
        $line = ['ok' => true, 'arn' => $sts->getCallerIdentity()->getArn()];
    } catch (Throwable $e) {
        $text = get_class($e) . ': ' . $e->getMessage();
        $line = ['ok' => false, 'error' => substr(preg_replace('/\s+/', ' ', $text), 0, 4000)];
    }
    fwrite(STDOUT, json_encode($line, JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE) . "\n");
}
