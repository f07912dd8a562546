-- MeshHook's own two tables, as MeshHook has them, made only where they do not exist. What the keyring adds to them comes
-- in a migration of its own, which is the same for both origins.

do $$
begin
  if pg_catalog.to_regprocedure('public.update_updated_at_column()') is null then
    create function public.update_updated_at_column() returns trigger
      language plpgsql set search_path = ''
      as $body$
      begin
        new.updated_at = pg_catalog.now();
        return new;
      end
      $body$;
  end if;

  if pg_catalog.to_regclass('public.projects') is null then
    create table public.projects (
      id uuid primary key default gen_random_uuid(),
      owner uuid not null,
      name text not null,
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now()
    );
    comment on table public.projects is 'The tenants: every project is a workspace of its own';
    comment on column public.projects.owner is 'The user it belongs to (auth.users.id)';
    create index idx_projects_owner on public.projects (owner);
    create trigger update_projects_updated_at before update on public.projects
      for each row execute function public.update_updated_at_column();
    alter table public.projects enable row level security;
    alter table public.projects force row level security;
    grant select, insert, update, delete on public.projects to authenticated;
    create policy "Users can view own projects" on public.projects for select using (owner = auth.uid());
    create policy "Users can create own projects" on public.projects for insert with check (owner = auth.uid());
    create policy "Users can update own projects" on public.projects for update
      using (owner = auth.uid()) with check (owner = auth.uid());
    create policy "Users can delete own projects" on public.projects for delete using (owner = auth.uid());
  end if;

  if pg_catalog.to_regclass('public.secrets') is null then
    create table public.secrets (
      id uuid primary key default gen_random_uuid(),
      project_id uuid not null references public.projects (id) on delete cascade,
      key text not null,
      value_encrypted bytea not null,
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(),
      unique (project_id, key)
    );
    comment on table public.secrets is 'Credentials of workflows, one row a name; the values are ciphertext';
    create index idx_secrets_project_id on public.secrets (project_id);
    create trigger update_secrets_updated_at before update on public.secrets
      for each row execute function public.update_updated_at_column();
    alter table public.secrets enable row level security;
    create policy "Users can view secrets in own projects" on public.secrets for select
      using (project_id in (select id from public.projects where owner = auth.uid()));
    create policy "Users can update secrets in own projects" on public.secrets for update
      using (project_id in (select id from public.projects where owner = auth.uid()))
      with check (project_id in (select id from public.projects where owner = auth.uid()));
    create policy "Users can delete secrets in own projects" on public.secrets for delete
      using (project_id in (select id from public.projects where owner = auth.uid()));
  end if;
end
$$;
