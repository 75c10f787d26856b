import aws.sdk.kotlin.services.sts.StsClient;
import aws.sdk.kotlin.services.sts.model.GetCallerIdentityRequest;
import kotlin.coroutines.EmptyCoroutineContext;
import kotlinx.coroutines.BuildersKt;

/** A client with the AWS SDK for Kotlin, written in Java so that no compiler for Kotlin is needed. */
final class Kotlin {
    public static void main(String[] args) throws Exception {
        var request = new GetCallerIdentityRequest.Builder().build();
        var none = EmptyCoroutineContext.INSTANCE;
        var sts = BuildersKt.<StsClient>runBlocking(none, (scope, next) -> StsClient.Companion.fromEnvironment(null, next));
        Answer.lines(() -> BuildersKt.<aws.sdk.kotlin.services.sts.model.GetCallerIdentityResponse>runBlocking(
                none, (scope, next) -> sts.getCallerIdentity(request, next)).getArn());
    }
}
