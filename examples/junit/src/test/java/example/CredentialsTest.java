package example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.List;
import java.util.regex.Pattern;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider;
import software.amazon.awssdk.services.sts.StsClient;

class CredentialsTest {
    private final DefaultCredentialsProvider credentials = DefaultCredentialsProvider.builder().build();
    private final StsClient sts = StsClient.builder().credentialsProvider(credentials).build();

    /** Asks the control interface of {@code taskcreds exec --control}. */
    private static String control(String method, String path, String body) throws Exception {
        var uri = URI.create(System.getenv("TASKCREDS_CONTROL") + path);
        var request = HttpRequest.newBuilder(uri).version(HttpClient.Version.HTTP_1_1).method(method, BodyPublishers.ofString(body));
        var answer = HttpClient.newHttpClient().send(request.build(), BodyHandlers.ofString());
        assertEquals(200, answer.statusCode(), answer.body());
        return answer.body();
    }

    private void whoAmI() {
        assertTrue(sts.getCallerIdentity().arn().contains(":assumed-role/demo/"));
    }

    @BeforeEach
    void nothingHasHappened() throws Exception {
        control("DELETE", "/journal", "");
    }

    @AfterEach
    void nothingFails() throws Exception {
        control("DELETE", "/faults", "");
    }

    @Test
    void aNewSessionIsPickedUp() throws Exception {
        var before = credentials.resolveCredentials().accessKeyId();
        control("POST", "/tasks/exec/expire", ""); // the one before is worth nothing from here on
        whoAmI();
        assertNotEquals(before, credentials.resolveCredentials().accessKeyId());
    }

    @Test
    void twoFailuresAreRiddenOut() throws Exception {
        control("PUT", "/faults", "{\"faults\": [\"exec:status=503,times=2\"]}");
        whoAmI();
        var noted = control("GET", "/journal?task=exec&place=credentials", "");
        var statuses = Pattern.compile("\"status\":(\\d+)").matcher(noted).results().map(found -> found.group(1)).limit(3);
        assertEquals(List.of("503", "503", "200"), statuses.toList());
    }
}
