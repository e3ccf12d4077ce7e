"""auth: who people are, which sessions are open, and what the edge may let through.

Owns the schema `auth`: accounts (a person), organizations, users (a person in one organization; the id is a token's `sub`), link tokens,
sessions, operators, the epoch feed. Owns no file, event or backup, and verifies nothing for the other services: they verify its tokens themselves.

Flows
  Register -> a job mails a single-use token -> VerifyEmail -> SignIn -> cookies or a bearer pair -> RefreshSession … -> SignOut.
  Every call through the edge: Envoy asks `http/check`, which reads the credential, asks whether the session lives, applies the contract's
  policy, Origin, content type and CSRF rules, and answers with an `x-user-token` (<= 60 s) for the route's audience.
  Between services: TokenService.ExchangeToken mints for a job or a call on a user's behalf, CheckSessions tells streams which sessions ended.

Liveness is one predicate (domain/liveness): the session row, its user, its organization and the installation's epoch. Whatever ends a session writes
the epoch feed in the same transaction; each replica polls it every 500 ms and forgets what it had decided, so an end is effective within two seconds.

Sources: RFC 9106 (argon2), RFC 5869 (HKDF), RFC 7519 (JWT), RFC 8693 (token exchange), RFC 6265bis (cookie prefixes), RFC 6454 (origin),
OWASP ASVS 5.0, OWASP cheat sheets on password storage and CSRF.

Operators exist by SQL alone: as the owner role or a superuser,
  INSERT INTO auth.operators (account_id, reason) SELECT id, 'why' FROM auth.accounts WHERE email_key = 'ada@example.com';
A trigger audits it; the account has the scope `operator` from its next sign-in on, and loses it within two seconds of the row's DELETE.
"""
