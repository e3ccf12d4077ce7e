"""auth: who people are, which sessions are open, and what the edge may let through.

Owns the schema `auth`: accounts (a person), organizations, users (a person in one organization; the id is a token's
`sub`), link tokens, sessions, operators, the epoch feed. Owns no file, event or backup, and verifies nothing for the
other services: they verify its tokens themselves.

Flows
  Register -> a job mails a single-use token -> VerifyEmail -> SignIn -> cookies or a bearer pair -> RefreshSession ...
  -> SignOut.
  Every call through the edge: Envoy asks `http/check`, which reads the credential, asks whether the session lives,
  applies the contract's policy, Origin, content type and CSRF rules, and answers with an `x-user-token` (at most 60
  seconds) for the audience of the route.
  Between services: TokenService.ExchangeToken mints for a job or a call on a user's behalf, CheckSessions tells
  streams which sessions have ended.

Liveness is one predicate, the SQL functions auth.live_user and auth.live_session: the session row, its user, its
organization, its person and the installation's epoch. The edge, refresh, exchange and CheckSessions all ask it.
Triggers write the epoch feed in the transaction that ends something, be it an operation or a statement typed by hand;
each replica polls it every 500 ms and forgets what it had decided, so an end is effective within two seconds.

Sources: RFC 9106 (argon2), RFC 5869 (HKDF), RFC 7519 (JWT), RFC 8693 (token exchange), RFC 6265bis (cookie prefixes),
RFC 6454 (origin), OWASP ASVS 5.0, OWASP cheat sheets on password storage and CSRF.

Operators exist by SQL alone, typed as the owner role or a superuser:
  INSERT INTO auth.operators (account_id, reason)
  SELECT id, 'runs the night shift' FROM auth.accounts WHERE email_key = 'ada@example.com';
A trigger audits it. The account has the scope `operator` from its next sign-in on, and loses it within two seconds of
  DELETE FROM auth.operators WHERE account_id = (SELECT id FROM auth.accounts WHERE email_key = 'ada@example.com');
"""
