import com.amazonaws.client.builder.AwsClientBuilder.EndpointConfiguration;
import com.amazonaws.services.securitytoken.AWSSecurityTokenServiceClientBuilder;
import com.amazonaws.services.securitytoken.model.GetCallerIdentityRequest;

/** A client with the AWS SDK for Java 1, which does not know AWS_ENDPOINT_URL_STS. */
final class Java1 {
    public static void main(String[] args) {
        var endpoint = new EndpointConfiguration(System.getenv("CONFORMANCE_STS"), System.getenv("AWS_REGION"));
        var sts = AWSSecurityTokenServiceClientBuilder.standard().withEndpointConfiguration(endpoint).build();
        Answer.lines(() -> sts.getCallerIdentity(new GetCallerIdentityRequest()).getArn());
    }
}
