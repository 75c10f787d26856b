import software.amazon.awssdk.services.sts.StsClient;

/** A client with the AWS SDK for Java 2. */
final class Java2 {
    public static void main(String[] args) {
        var sts = StsClient.create();
        Answer.lines(() -> sts.getCallerIdentity().arn());
    }
}
